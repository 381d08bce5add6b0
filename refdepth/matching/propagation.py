"""Carrying a correction from sure to unsure pixels: weighted least squares on the picture grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, is_tensor
from refdepth.matching.laplacian import laplacian
from refdepth.matching.multigrid_kernels import assemble
from refdepth.matching.propagation_kernels import conjugate_gradients, gather

Grid = NDArray[np.float64]
SURE_POWER = 1.25
"""Power of a match's confidence that weighs it where a plane sweep is filled or followed with
twicing, which brings back slopes and the noise of unsure matches."""


class GridSystem:
    """The operator diag(w) + Laplacian(wx, wy) on a picture grid, with its coarser versions."""

    def __init__(self, w: Grid, wx: Grid, wy: Grid) -> None:
        """`w` (H, W) weights the data, `wx` (H, W-1) and `wy` (H-1, W) the links between
        neighbours."""
        shapes = [w.shape]
        while min(shapes[-1]) >= 3:
            height, width = shapes[-1]
            shapes.append(((height + 1) // 2, (width + 1) // 2))
        self._shapes = np.array(shapes, np.int64)
        ends = np.cumsum((self._shapes + 2).prod(axis=1))
        self._starts = np.append(0, ends[:-1])
        self._operator = np.zeros((3, ends[-1]))
        assemble(w, wx, wy, self._shapes, self._starts, *self._operator)

    def solve(
        self, rhs: Grid, start: Grid | None = None, *, tolerance: float = 1e-4, limit: int = 1000
    ) -> Grid:
        """x with operator x = rhs (H, W), by conjugate gradients preconditioned with one multigrid
        cycle; stops at a relative residual of `tolerance` or after `limit` iterations."""
        x = np.zeros_like(rhs) if start is None else start.copy()
        conjugate_gradients(self._shapes, self._starts, *self._operator, rhs, tolerance, limit, x)
        return x


def solve(w: Array, wx: Array, wy: Array, rhs: Array) -> Array:
    """x (H, W) with (diag(w) + Laplacian(wx, wy)) x = rhs: `GridSystem` of arrays, or its twin of
    tensors, whose number of iterations is fixed."""
    if is_tensor(w):
        from refdepth.matching import torch_propagation

        return torch_propagation.solve(w, wx, wy, rhs)
    return GridSystem(w, wx, wy).solve(rhs)


def propagate(
    values: Array,
    weights: Array,
    link_x: Array,
    link_y: Array,
    *,
    smoothness: float,
    outlier: float,
    anchor: float,
    rounds: int,
    sure: float = 0.0,
    start: Array | None = None,
    twicing: bool = False,
) -> Array:
    """The map (H, W) that stays near `values` where `weights` are high and is smooth elsewhere.

    `values` and `weights` (L, H, W) are L opinions on each pixel. Minimises
    sum w (x - value)^2 + anchor sum x^2 + smoothness sum link (x_i - x_j)^2. Opinions further
    than `outlier` from the solution lose weight (iteratively reweighted, Cauchy), over `rounds`
    solves, the first of which already reweights where a `start` is given; opinions of less weight
    than `sure` may be further off, in inverse proportion, up to eightfold. `link_x` (H, W-1) and
    `link_y` (H-1, W) say how strongly neighbours belong together.

    A smooth map is flatter than what it was made from: a slope is levelled wherever opinions leave
    room. With `twicing` (Tukey 1977) one further solve has not the map itself smooth but what it
    changes in the map so far, which brings back most of what was levelled and less of the noise.
    """
    if is_tensor(values):
        from refdepth.matching import torch_propagation

        return torch_propagation.propagate(
            values,
            weights,
            link_x,
            link_y,
            smoothness=smoothness,
            outlier=outlier,
            anchor=anchor,
            rounds=rounds,
            sure=sure,
            start=start,
            twicing=twicing,
        )
    wx = smoothness * link_x.astype(np.float64)
    wy = smoothness * link_y.astype(np.float64)
    x: Grid | None = None if start is None else start.astype(np.float64)
    for number in range(rounds + twicing):
        data = np.full(values.shape[1:], float(anchor))
        rhs = np.zeros_like(data)
        if x is None:
            gather(values, weights, np.zeros_like(data), 0.0, sure, data, rhs)
        else:
            gather(values, weights, x, 1 / outlier**2, sure, data, rhs)
            if number == rounds:
                rhs += laplacian(wx, wy, x)
        x = GridSystem(data, wx, wy).solve(rhs, x)
    assert x is not None
    return x.astype(np.float32)
