"""What a prior says at the SfM points of its view, and how much each point counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.lens import sample_map
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import SparseDepth

Array = NDArray[np.float64]

CELLS = 8
"""Cells along each side of the picture, for crowds and coverage."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What the prior says at the SfM points, arrays (N,)."""

    xy: Array
    """Pixels (N, 2)."""
    x: Array
    depth: Array
    target: Array
    """What x is fitted to: depth, or its inverse."""
    weight: Array
    track_length: NDArray[np.int64]
    cell: NDArray[np.int64]
    """In which of the picture's cells the point lies."""

    def where(self, chosen: NDArray[np.bool_]) -> Observed:
        """Some of the points."""
        return Observed(**{name: values[chosen] for name, values in vars(self).items()})


def observe(prior: Prior, sparse: SparseDepth) -> Observed:
    """The SfM points at which the prior says something."""
    down, across = prior.step
    x = sample_map(prior.values, sparse.xy / [across, down]).astype(np.float64)
    usable = np.isfinite(x) & (sparse.depth > 0)
    if prior.kind == PriorKind.METRIC:
        usable &= x > 0
    depth = sparse.depth[usable]
    cell = _cells(sparse.xy[usable], prior.covers)
    return Observed(
        xy=sparse.xy[usable],
        x=x[usable],
        depth=depth,
        target=1 / depth if prior.kind == PriorKind.INVERSE_AFFINE else depth,
        weight=_weights(sparse.track_length[usable], sparse.error_px[usable], cell),
        track_length=sparse.track_length[usable],
        cell=cell,
    )


def _weights(track_length: NDArray[np.int64], error_px: Array, cells: NDArray[np.int64]) -> Array:
    """Long tracks and small reprojection errors count more; crowds of points in one part of the
    picture count less than their number."""
    weight = np.minimum(track_length - 1, 6) / (1 + np.square(error_px))
    crowd = np.bincount(cells, minlength=1)[cells]
    return np.maximum(weight, 0.1) / np.sqrt(np.maximum(crowd, 1))


def _cells(xy: Array, shape: tuple[float, float]) -> NDArray[np.int64]:
    """Cell number (N,) of each pixel in an 8 x 8 division of the picture."""
    column = np.clip(xy[:, 0] * CELLS / shape[1], 0, CELLS - 1).astype(np.int64)
    row = np.clip(xy[:, 1] * CELLS / shape[0], 0, CELLS - 1).astype(np.int64)
    return row * CELLS + column
