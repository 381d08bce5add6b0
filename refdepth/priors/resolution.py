"""From the resolution that a prior has to that of its photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refdepth.geometry.grid import depth_grown, grown
from refdepth.types.prior import Prior, PriorKind


def in_photo(prior: Prior, shape: tuple[int, int]) -> Prior:
    """`prior` with a value for every pixel of its photo of `shape` (H, W): between the values that
    it has, depth is interpolated in inverse depth, other values as they are.

    Example::

        prior = in_photo(refdepth.SweepPrior().estimate(view, scene), view.camera.shape)
    """
    if prior.step == (1, 1):
        return prior
    grow = depth_grown if prior.kind == PriorKind.METRIC else grown
    sure = prior.confidence
    return replace(
        prior,
        values=grow(prior.values, shape, prior.step),
        confidence=None if sure is None else np.clip(grown(sure, shape, prior.step), 0, 1),
        step=(1.0, 1.0),
    )
