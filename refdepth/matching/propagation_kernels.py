"""Compiled parts of the sparse solver: conjugate gradients, and opinions as its data.

Row sums are added in row order. None of this is parallel: grids shrink to a few pixels, and a view
is solved hundreds of times; threads would wait for each other longer than they work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.matching.multigrid_kernels import Flat, Grid, Levels, cycle, links

WIDEST = 8.0
"""How many times further off than sure opinions the least sure may be."""


@kernel
def _faded(weight: float, difference: float, sharpness: float, sure: float) -> float:
    """Cauchy weight; its width is 1 for weights of `sure` and more."""
    distance = difference / min(max(sure / max(weight, 1e-9), 1.0), WIDEST)
    return weight / (1 + sharpness * distance * distance)


@kernel
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
    for y in range(height):
        for i in range(n):
            for c in range(width):
                difference = x[y, c] - values[i, y, c]
                weight = _faded(weights[i, y, c], difference, sharpness, sure)
                data[y, c] += weight
                rhs[y, c] += weight * values[i, y, c]


@kernel
def conjugate_gradients(
    shapes: Levels,
    starts: Levels,
    diag: Flat,
    right: Flat,
    down: Flat,
    rhs: Grid,
    tolerance: float,
    limit: int,
    x: Grid,
) -> int:
    """Improves `x` (H, W) until the operator applied to it gives `rhs` (H, W) up to a relative
    residual of `tolerance`, in at most `limit` iterations, each preconditioned with one multigrid
    cycle; returns how many it took. For the levels see `multigrid_kernels`."""
    height, width = rhs.shape
    pitch = width + 2
    size = (height + 2) * pitch
    # The residual and what a cycle makes of it are the finest level of the cycle's own arrays.
    residual, z = np.zeros(len(diag)), np.zeros(len(diag))
    direction, image = np.zeros(size), np.zeros(size)
    norm, squares = 0.0, 0.0
    for y in range(height):
        for c in range(width):
            direction[(y + 1) * pitch + c + 1] = x[y, c]
    _multiply(height, width, diag, right, down, direction, image)
    for y in range(height):
        row_norm, row_squares = 0.0, 0.0
        for c in range(width):
            i = (y + 1) * pitch + c + 1
            residual[i] = rhs[y, c] - image[i]
            row_norm += rhs[y, c] * rhs[y, c]
            row_squares += residual[i] * residual[i]
        norm += row_norm
        squares += row_squares
    goal = tolerance**2 * max(norm, 1e-300)
    rho = 0.0
    for iteration in range(limit):
        if squares <= goal:
            return iteration
        cycle(shapes, starts, diag, right, down, residual, z)
        previous, rho = rho, _dot(height, width, residual, z)
        share = rho / previous if iteration > 0 else 0.0
        for i in range(size):
            direction[i] = share * direction[i] + z[i]
        alpha = rho / _multiply(height, width, diag, right, down, direction, image)
        squares = 0.0
        for y in range(height):
            row_squares = 0.0
            for c in range(width):
                i = (y + 1) * pitch + c + 1
                x[y, c] += alpha * direction[i]
                residual[i] -= alpha * image[i]
                row_squares += residual[i] * residual[i]
            squares += row_squares
    return limit


@kernel
def _multiply(
    height: int, width: int, diag: Flat, right: Flat, down: Flat, v: Flat, out: Flat
) -> float:
    """`out` = operator applied to `v` on the finest level; returns v . out."""
    pitch = width + 2
    result = 0.0
    for y in range(height):
        first = (y + 1) * pitch + 1
        total = 0.0
        for i in range(first, first + width):
            value = diag[i] * v[i] - links(v, right, down, i, pitch)
            out[i] = value
            total += value * v[i]
        result += total
    return result


@kernel
def _dot(height: int, width: int, a: Flat, b: Flat) -> float:
    """a . b on the finest level."""
    pitch = width + 2
    result = 0.0
    for y in range(height):
        first = (y + 1) * pitch + 1
        total = 0.0
        for i in range(first, first + width):
            total += a[i] * b[i]
        result += total
    return result
