"""What artifacts hold, rounded to what it can mean. Final maps are plain float32 that compresses to
a third, for every reader; what is read through refdepth alone is packed, which takes half of
that and loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import by_strips
from refdepth.types.depth_map import DepthMap

_SPARE_BITS = 10
"""Of the 23 bits of a float32's mantissa, those that `rounded` clears."""
_BYTES = 3
"""Of a packed value: sign, exponent and what is left of the mantissa."""
_LEVELS = 255
"""Steps from 0 to 1 of stored confidence."""
CONFIDENCE = "confidence"
_PACKED, _IN_LEVELS = ".packed", ".levels"
"""Endings of the names of packed arrays."""


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` to 2**-14 (6e-5) of themselves, far below what any view knows of depth. What is
    unknown (0 or NaN) stays so; rounding again changes nothing."""
    raw = values.view(np.uint32) + np.uint32(1 << (_SPARE_BITS - 1))
    raw &= np.uint32(-1 << _SPARE_BITS & 0xFFFFFFFF)
    return raw.view(np.float32)


def in_levels(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Confidence in [0, 1] to 1 / 255: again as it was after it has been rounded to float16."""
    return by_strips(lambda part: np.rint(part * _LEVELS) / _LEVELS, confidence)


def compact(depth_map: DepthMap) -> dict[str, NDArray[Any]]:
    """Depth, float32, and confidence, float16, as the arrays of an artifact that every reader
    takes."""
    return {"depth": rounded(depth_map.depth), CONFIDENCE: stored_confidence(depth_map.confidence)}


def stored_confidence(confidence: NDArray[np.float32]) -> NDArray[np.float16]:
    """Confidence as it stands in final maps."""
    return in_levels(confidence).astype(np.float16)


def packed(
    *, confidence: NDArray[np.float32] | None = None, **maps: NDArray[np.float32]
) -> dict[str, NDArray[np.uint8]]:
    """Confidence and `maps` of any other kind, all (height, width), as the arrays of an artifact
    that is read with `unpacked`: confidence to 1 / 255, the others as `rounded`."""
    arrays = {f"{name}{_PACKED}": _pack(rounded(values)) for name, values in maps.items()}
    if confidence is not None:
        arrays[f"{CONFIDENCE}{_IN_LEVELS}"] = np.rint(confidence * _LEVELS).astype(np.uint8)
    return arrays


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of an artifact, maps as float32, whether they are packed or not.

    Raises `ValueError` where a packed array has not the shape that it must have.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if name.endswith(_PACKED):
            found[name.removesuffix(_PACKED)] = _unpack(array)
        elif name.endswith(_IN_LEVELS):
            found[name.removesuffix(_IN_LEVELS)] = array.astype(np.float32) / np.float32(_LEVELS)
        elif name == CONFIDENCE and array.dtype == np.float16:
            found[name] = in_levels(array.astype(np.float32))
        else:
            found[name] = array
    return found


def _pack(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bits of rounded values (h, w), taken as whole numbers, as what they differ by from the
    plane through their neighbours above and to the left: bytes (3, h, w), lowest first. On
    surfaces that is next to nothing, and the higher bytes are almost all 0."""
    rest = values.view(np.uint32).copy()
    rest[1:] -= values.view(np.uint32)[:-1]
    rest[:, 1:] -= rest[:, :-1].copy()
    signed = rest.view(np.int32) >> _SPARE_BITS
    folded = signed << 1 ^ signed >> 31  # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    return np.stack([(folded >> 8 * place).astype(np.uint8) for place in range(_BYTES)])


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The values (h, w) that `_pack` was given."""
    if packed.ndim != 3 or len(packed) != _BYTES or packed.dtype != np.uint8:
        raise ValueError(f"packed values are {packed.dtype} {packed.shape}")
    folded = packed[0].astype(np.uint32)
    for place in range(1, _BYTES):
        folded |= packed[place].astype(np.uint32) << np.uint32(8 * place)
    rest = (folded >> 1 ^ -(folded & 1)) << _SPARE_BITS
    np.cumsum(rest, axis=1, dtype=np.uint32, out=rest)
    np.cumsum(rest, axis=0, dtype=np.uint32, out=rest)
    return rest.view(np.float32)
