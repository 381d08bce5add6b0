"""What artifacts hold, rounded to what it can mean: plain float32 for every reader that compresses
to a third."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import by_strips
from refdepth.types.depth_map import DepthMap

_MANTISSA_BITS = 23  # of float32
_KEPT_BITS = 13
_LEVELS = 255
"""Levels of stored confidence."""


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` to 2**-14 (6e-5) of themselves, far below what any view knows of depth. What is
    unknown (0 or NaN) stays so; rounding again changes nothing."""
    spare = _MANTISSA_BITS - _KEPT_BITS
    raw = values.view(np.uint32) + np.uint32(1 << (spare - 1))
    return (raw >> spare << spare).view(np.float32)


def in_levels(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Confidence in [0, 1] to 1 / 255."""
    return by_strips(lambda part: np.rint(part * _LEVELS) / _LEVELS, confidence)


def compact(depth_map: DepthMap) -> dict[str, NDArray[np.float32]]:
    """Depth and confidence as the arrays of an artifact."""
    return {"depth": rounded(depth_map.depth), "confidence": in_levels(depth_map.confidence)}
