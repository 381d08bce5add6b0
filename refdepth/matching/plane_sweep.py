"""Plane sweep: depth looked for everywhere between two bounds, from photos alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.working_view import WorkingView
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.search import search
from refdepth.matching.settings import MatchSettings

Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Swept:
    """What a sweep found on the working grid (H, W)."""

    log_depth: Map
    confidence: Map
    """Of the photometric match, in [0, 1]."""


def sweep_planes(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    bounds: tuple[float, float],
    planes: int,
    settings: MatchSettings,
) -> Swept:
    """Compares `planes` depths between `bounds` (nearest, farthest) at every pixel.

    Steps are even in log depth: near things without SfM points need a wide range, and the search
    that follows wants the same relative precision everywhere.
    """
    near, far = bounds
    depths = np.geomspace(near, far, planes).astype(np.float32)
    comparison = Comparison.of(Windows.of(ref, settings), sources)
    found = search(comparison, np.ones_like(ref.gray), depths, settings)
    share = np.clip(found.step / (planes - 1), 0, 1)
    log_depth = np.log(near) + share * np.log(far / near)
    return Swept(
        log_depth=log_depth.astype(np.float32),
        confidence=photometric_confidence(found.zncc, found.texture),
    )
