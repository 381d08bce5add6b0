"""Plane sweep: depth looked for everywhere between two bounds, from photos alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refdepth.arrays import Array, namespace, put
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.search import search
from refdepth.matching.settings import MatchSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Swept:
    """What a sweep found on the working grid (H, W)."""

    log_depth: Array
    confidence: Array
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
    xp = namespace(ref.gray)
    found = search(comparison, xp.ones_like(ref.gray), put(depths, ref.device), settings)
    share = xp.clip(found.step / (planes - 1), 0, 1)
    # In double precision where the arrays are NumPy's, as their scalars are.
    log_depth = share * np.log(far / near) + np.log(near)
    return Swept(
        log_depth=xp.astype(log_depth, xp.float32),
        confidence=photometric_confidence(found.zncc, found.texture),
    )
