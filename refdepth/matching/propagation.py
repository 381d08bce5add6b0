"""Carrying a correction from sure to unsure pixels: weighted least squares on the picture grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.matching import propagation_kernels as kernels

Grid = NDArray[np.float64]


class GridSystem:
    """The operator diag(w) + Laplacian(wx, wy) on a picture grid, with its coarser versions."""

    def __init__(self, w: Grid, wx: Grid, wy: Grid) -> None:
        self.levels: list[tuple[Grid, Grid, Grid]] = []
        while True:
            diag = np.empty_like(w)
            kernels.diagonal(w, wx, wy, diag)
            self.levels.append((diag, wx, wy))
            height, width = w.shape
            if min(height, width) < 3:
                break
            shape = ((height + 1) // 2, (width + 1) // 2)
            cw, cwx, cwy = (
                np.empty(shape),
                np.empty((shape[0], shape[1] - 1)),
                np.empty((shape[0] - 1, shape[1])),
            )
            kernels.coarsen(w, wx, wy, cw, cwx, cwy)
            w, wx, wy = cw, cwx, cwy

    def solve(
        self, rhs: Grid, start: Grid | None = None, *, tolerance: float = 1e-4, limit: int = 1000
    ) -> Grid:
        """x with operator x = rhs (H, W), by conjugate gradients preconditioned with one multigrid
        cycle; stops at a relative residual of `tolerance` or after `limit` iterations."""
        diag, wx, wy = self.levels[0]
        x = np.zeros_like(rhs) if start is None else start.copy()
        image = np.empty_like(rhs)
        kernels.multiply(diag, wx, wy, x, image)
        residual = rhs - image
        goal = tolerance**2 * max(kernels.dot(rhs, rhs), 1e-300)
        z = self._cycle(0, residual)
        direction = z.copy()
        rho = kernels.dot(residual, z)
        for _ in range(limit):
            if kernels.dot(residual, residual) <= goal:
                break
            alpha = rho / kernels.multiply(diag, wx, wy, direction, image)
            kernels.add_scaled(x, direction, alpha, 1.0)
            kernels.add_scaled(residual, image, -alpha, 1.0)
            z = self._cycle(0, residual)
            rho, previous = kernels.dot(residual, z), rho
            kernels.add_scaled(direction, z, 1.0, rho / previous)
        return x

    def _cycle(self, level: int, rhs: Grid) -> Grid:
        """One symmetric V cycle on `level` from zero."""
        diag, wx, wy = self.levels[level]
        v = np.zeros_like(rhs)
        kernels.relax(diag, wx, wy, rhs, v, 0)
        if level + 1 < len(self.levels):
            coarse = np.empty_like(self.levels[level + 1][0])
            kernels.restrict_residual(diag, wx, wy, rhs, v, coarse)
            kernels.prolong(self._cycle(level + 1, coarse), v)
        kernels.relax(diag, wx, wy, rhs, v, 1)
        return v


def propagate(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    link_x: NDArray[np.float32],
    link_y: NDArray[np.float32],
    *,
    smoothness: float,
    outlier: float,
    anchor: float,
    rounds: int,
    sure: float = 0.0,
    start: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The map (H, W) that stays near `values` where `weights` are high and is smooth elsewhere.

    `values` and `weights` (L, H, W) are L opinions on each pixel. Minimises
    sum w (x - value)^2 + anchor sum x^2 + smoothness sum link (x_i - x_j)^2. Opinions further
    than `outlier` from the solution lose weight (iteratively reweighted, Cauchy), over `rounds`
    solves, the first of which already reweights where a `start` is given; opinions of less weight
    than `sure` may be further off, in inverse proportion, up to eightfold. `link_x` (H, W-1) and
    `link_y` (H-1, W) say how strongly neighbours belong together.
    """
    wx = smoothness * link_x.astype(np.float64)
    wy = smoothness * link_y.astype(np.float64)
    x: Grid | None = None if start is None else start.astype(np.float64)
    for _ in range(rounds):
        data = np.full(values.shape[1:], float(anchor))
        rhs = np.zeros_like(data)
        if x is None:
            kernels.gather(values, weights, np.zeros_like(data), 0.0, sure, data, rhs)
        else:
            kernels.gather(values, weights, x, 1 / outlier**2, sure, data, rhs)
        x = GridSystem(data, wx, wy).solve(rhs, x)
    assert x is not None
    return x.astype(np.float32)
