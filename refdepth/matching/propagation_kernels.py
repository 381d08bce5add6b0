"""Compiled parts of the sparse solver: conjugate gradients, and opinions as its data.

None of this is parallel: grids shrink to a few pixels, and a view
is solved hundreds of times; threads would wait for each other longer than they work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.matching.multigrid_kernels import Flat, Grid, Levels, cycle, first_pixel, links

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
    size = (height + 2) * (width + 2)
    inverse = np.zeros_like(diag)
    for i in range(len(diag)):
        inverse[i] = 1 / diag[i] if diag[i] > 0 else 0.0
    # The residual and what a cycle makes of it are the finest level of the cycle's own arrays.
    residual, z = np.zeros_like(diag), np.zeros_like(diag)
    solution, direction, image = np.zeros(size), np.zeros(size), np.zeros(size)
    sums = np.empty(width + 2)
    for y in range(height):
        first = first_pixel(0, width, y)
        for column in range(width):
            solution[first + np.uint64(column)] = x[y, column]
            residual[first + np.uint64(column)] = rhs[y, column]
    goal = tolerance**2 * max(_dot(residual[:size], residual[:size], sums), 1e-300)
    _multiply(height, width, diag, right, down, solution, image)
    _add(residual[:size], -1.0, image)
    rho = 0.0
    iteration = 0
    while iteration < limit and _dot(residual[:size], residual[:size], sums) > goal:
        cycle(shapes, starts, inverse, right, down, residual, z)
        previous, rho = rho, _dot(residual[:size], z[:size], sums)
        share = rho / previous if iteration > 0 else 0.0
        for i in range(size):
            direction[i] = share * direction[i] + z[i]
        _multiply(height, width, diag, right, down, direction, image)
        alpha = rho / _dot(direction, image, sums)
        _add(solution, alpha, direction)
        _add(residual[:size], -alpha, image)
        iteration += 1
    for y in range(height):
        first = first_pixel(0, width, y)
        for column in range(width):
            x[y, column] = solution[first + np.uint64(column)]
    return iteration


@kernel
def _multiply(
    height: int, width: int, diag: Flat, right: Flat, down: Flat, v: Flat, out: Flat
) -> None:
    """`out` = operator applied to `v` on the finest level."""
    pitch = np.uint64(width + 2)
    for y in range(height):
        first = first_pixel(0, width, y)
        for x in range(np.uint64(width)):
            i = first + x
            out[i] = diag[i] * v[i] - links(v, right, down, i, pitch)


@kernel
def _add(a: Flat, factor: float, b: Flat) -> None:
    """Adds factor * b to a."""
    for i in range(len(a)):
        a[i] += factor * b[i]


@kernel
def _dot(a: Flat, b: Flat, sums: Flat) -> float:
    """a . b, by way of the `sums` of columns: those can be added side by side."""
    sums[:] = 0
    for first in range(0, len(a), len(sums)):
        a_row, b_row = a[first : first + len(sums)], b[first : first + len(sums)]
        for x in range(len(sums)):
            sums[x] += a_row[x] * b_row[x]
    total = 0.0
    for x in range(len(sums)):
        total += sums[x]
    return total
