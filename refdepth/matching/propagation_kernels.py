"""Compiled parts of the sparse solver: a five-point graph Laplacian plus a diagonal.

Unknowns lie on a picture grid; `wx` (H, W-1) and `wy` (H-1, W) weight the links between
neighbours, `w` (H, W) the data. Row sums are added in row order, so results do not depend on the
number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel

Grid = NDArray[np.float64]
WIDEST = 8.0
"""How many times further off than sure opinions the least sure may be."""


@kernel
def _faded(weight: float, difference: float, sharpness: float, sure: float) -> float:
    """Cauchy weight; its width is 1 for weights of `sure` and more."""
    distance = difference / min(max(sure / max(weight, 1e-9), 1.0), WIDEST)
    return weight / (1 + sharpness * distance * distance)


@parallel_kernel
def gather(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    x: Grid,
    sharpness: float,
    sure: float,
    data: Grid,
    rhs: Grid,
) -> None:
    """Adds the opinions `values` (L, H, W) to `data` and `rhs` (H, W), each weighted with
    `weights` / (1 + sharpness ((x - value) / width)^2), where the width is 1 for weights of `sure`
    and more, and grows to `WIDEST` as they fall: who is unsure is expected to be further off."""
    n, height, width = values.shape
    for y in prange(height):
        for i in range(n):
            for c in range(width):
                difference = x[y, c] - values[i, y, c]
                weight = _faded(weights[i, y, c], difference, sharpness, sure)
                data[y, c] += weight
                rhs[y, c] += weight * values[i, y, c]


@parallel_kernel
def diagonal(w: Grid, wx: Grid, wy: Grid, out: Grid) -> None:
    """The operator's diagonal."""
    height, width = w.shape
    for y in prange(height):
        for x in range(width):
            value = w[y, x]
            if x > 0:
                value += wx[y, x - 1]
            if x < width - 1:
                value += wx[y, x]
            if y > 0:
                value += wy[y - 1, x]
            if y < height - 1:
                value += wy[y, x]
            out[y, x] = value


@kernel(inline="always")
def _links(v: Grid, wx: Grid, wy: Grid, y: int, x: int) -> float:
    """Sum of weighted neighbours of one pixel."""
    height, width = v.shape
    value = 0.0
    if x > 0:
        value += wx[y, x - 1] * v[y, x - 1]
    if x < width - 1:
        value += wx[y, x] * v[y, x + 1]
    if y > 0:
        value += wy[y - 1, x] * v[y - 1, x]
    if y < height - 1:
        value += wy[y, x] * v[y + 1, x]
    return value


@parallel_kernel
def multiply(diag: Grid, wx: Grid, wy: Grid, v: Grid, out: Grid) -> float:
    """`out` = operator applied to `v`; returns v . out."""
    height, width = v.shape
    rows = np.zeros(height)
    for y in prange(height):
        total = 0.0
        for x in range(width):
            value = diag[y, x] * v[y, x] - _links(v, wx, wy, y, x)
            out[y, x] = value
            total += value * v[y, x]
        rows[y] = total
    result = 0.0
    for y in range(height):
        result += rows[y]
    return result


@parallel_kernel
def dot(a: Grid, b: Grid) -> float:
    """a . b."""
    height, width = a.shape
    rows = np.zeros(height)
    for y in prange(height):
        total = 0.0
        for x in range(width):
            total += a[y, x] * b[y, x]
        rows[y] = total
    result = 0.0
    for y in range(height):
        result += rows[y]
    return result


@parallel_kernel
def add_scaled(a: Grid, b: Grid, factor: float, scale: float) -> None:
    """a = scale a + factor b, in place."""
    height, width = a.shape
    for y in prange(height):
        for x in range(width):
            a[y, x] = scale * a[y, x] + factor * b[y, x]


@parallel_kernel
def relax(diag: Grid, wx: Grid, wy: Grid, rhs: Grid, v: Grid, first: int) -> None:
    """One Gauss-Seidel sweep in two colours, colour `first` (0 or 1) first."""
    height, width = v.shape
    for turn in range(2):
        colour = (first + turn) % 2
        for y in prange(height):
            for x in range((y + colour) % 2, width, 2):
                v[y, x] = (rhs[y, x] + _links(v, wx, wy, y, x)) / diag[y, x]


@parallel_kernel
def restrict_residual(diag: Grid, wx: Grid, wy: Grid, rhs: Grid, v: Grid, coarse: Grid) -> None:
    """`coarse` = residual summed over blocks of 2x2."""
    height, width = v.shape
    for cy in prange(coarse.shape[0]):
        for cx in range(coarse.shape[1]):
            total = 0.0
            for y in range(2 * cy, min(2 * cy + 2, height)):
                for x in range(2 * cx, min(2 * cx + 2, width)):
                    total += rhs[y, x] - diag[y, x] * v[y, x] + _links(v, wx, wy, y, x)
            coarse[cy, cx] = total


@parallel_kernel
def prolong(coarse: Grid, v: Grid) -> None:
    """Adds each coarse value to its 2x2 block."""
    height, width = v.shape
    for y in prange(height):
        for x in range(width):
            v[y, x] += coarse[y // 2, x // 2]


@parallel_kernel
def coarsen(w: Grid, wx: Grid, wy: Grid, cw: Grid, cwx: Grid, cwy: Grid) -> None:
    """Weights of the grid of 2x2 blocks. Links between blocks are halved: constant blocks make the
    coarse problem too stiff by about that (Braess 1995)."""
    height, width = w.shape
    for cy in prange(cw.shape[0]):
        for cx in range(cw.shape[1]):
            total = 0.0
            for y in range(2 * cy, min(2 * cy + 2, height)):
                for x in range(2 * cx, min(2 * cx + 2, width)):
                    total += w[y, x]
            cw[cy, cx] = total
            if cx < cw.shape[1] - 1:
                total = 0.0
                for y in range(2 * cy, min(2 * cy + 2, height)):
                    total += wx[y, 2 * cx + 1]
                cwx[cy, cx] = 0.5 * total
            if cy < cw.shape[0] - 1:
                total = 0.0
                for x in range(2 * cx, min(2 * cx + 2, width)):
                    total += wy[2 * cy + 1, x]
                cwy[cy, cx] = 0.5 * total
