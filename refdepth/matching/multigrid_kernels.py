"""Compiled multigrid for a five-point graph Laplacian plus a diagonal, on a picture grid.

All levels lie one after the other in flat arrays, the finest first. Each has a border of one pixel
that stays 0: links into it are 0, and no neighbour has to be asked for. Level l of (height, width)
`shapes[l]` starts at `starts[l]`; its pixel (y, x) lies at start + (y + 1) (width + 2) + x + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

Flat = NDArray[np.float64]
Levels = NDArray[np.int64]
Grid = NDArray[np.float64]


@kernel
def assemble(
    w: Grid, wx: Grid, wy: Grid, shapes: Levels, starts: Levels, diag: Flat, right: Flat, down: Flat
) -> None:
    """Fills the operator's diagonal, and the links of each pixel to its right and lower neighbour,
    on all levels, from the data weights `w` (H, W) and links `wx` (H, W-1) and `wy` (H-1, W). The
    arrays are 0 before."""
    height, width = w.shape
    for y in range(height):
        for x in range(width):
            i = (y + 1) * (width + 2) + x + 1
            diag[i] = w[y, x]
            if x < width - 1:
                right[i] = wx[y, x]
            if y < height - 1:
                down[i] = wy[y, x]
    for level in range(1, len(shapes)):
        _coarsen(level, shapes, starts, diag, right, down)
    for level in range(len(shapes)):
        pitch = shapes[level, 1] + 2
        for y in range(shapes[level, 0]):
            first = starts[level] + (y + 1) * pitch + 1
            for i in range(first, first + shapes[level, 1]):
                diag[i] = diag[i] + right[i - 1] + right[i] + down[i - pitch] + down[i]


@kernel
def _coarsen(
    level: int, shapes: Levels, starts: Levels, data: Flat, right: Flat, down: Flat
) -> None:
    """Weights of a level from those of the one before: blocks of 2x2. Links between blocks are
    halved: constant blocks make the coarse problem too stiff by about that (Braess 1995)."""
    pitch, fine_pitch = shapes[level, 1] + 2, shapes[level - 1, 1] + 2
    for y in range(shapes[level, 0]):
        for x in range(shapes[level, 1]):
            i = starts[level] + (y + 1) * pitch + x + 1
            j = starts[level - 1] + (2 * y + 1) * fine_pitch + 2 * x + 1
            below = j + fine_pitch
            data[i] = data[j] + data[j + 1] + data[below] + data[below + 1]
            right[i] = 0.5 * (right[j + 1] + right[below + 1])
            down[i] = 0.5 * (down[below] + down[below + 1])


@kernel
def links(v: Flat, right: Flat, down: Flat, i: int, pitch: int) -> float:
    """Sum of the weighted neighbours of pixel `i`. Both numbers unsigned: no code for indices that
    count from the end."""
    one = np.uint64(1)
    return (
        right[i - one] * v[i - one]
        + right[i] * v[i + one]
        + down[i - pitch] * v[i - pitch]
        + down[i] * v[i + pitch]
    )


@kernel
def cycle(
    shapes: Levels, starts: Levels, inverse: Flat, right: Flat, down: Flat, rhs: Flat, v: Flat
) -> None:
    """One symmetric V cycle from zero: fills `v` on the finest level from `rhs` there; their other
    levels are room to work in. `inverse` is 1 / the operator's diagonal.

    Pixels have two colours, as on a chessboard; a sweep (Gauss-Seidel) takes one after the other.
    What a step leaves to be overwritten is never computed.
    """
    last = len(shapes) - 1
    for level in range(last + 1):
        height, width = shapes[level]
        for y in range(height):
            first = first_pixel(starts[level], width, y)
            for x in range(np.uint64(y & 1), np.uint64(width), np.uint64(2)):
                v[first + x] = rhs[first + x] * inverse[first + x]
        _relax(height, width, starts[level], np.int64(1), inverse, right, down, rhs, v)
        if level < last:
            _restrict(level, shapes, starts, right, down, rhs, v)
    for level in range(last, -1, -1):
        height, width = shapes[level]
        if level < last:
            _prolong(level, shapes, starts, v)
        # Typed, or each number would be compiled on its own.
        for colour in (np.int64(1), np.int64(0)):
            _relax(height, width, starts[level], colour, inverse, right, down, rhs, v)


@kernel
def first_pixel(start: int, width: int, y: int) -> np.uint64:
    """Where row `y` of a level begins."""
    return np.uint64(start + (y + 1) * (width + 2) + 1)


@kernel
def _relax(
    height: int,
    width: int,
    start: int,
    colour: int,
    inverse: Flat,
    right: Flat,
    down: Flat,
    rhs: Flat,
    v: Flat,
) -> None:
    """Solves the pixels of one colour for their neighbours."""
    pitch = np.uint64(width + 2)
    for y in range(height):
        first = first_pixel(start, width, y)
        for x in range(np.uint64((y + colour) & 1), np.uint64(width), np.uint64(2)):
            i = first + x
            v[i] = (rhs[i] + links(v, right, down, i, pitch)) * inverse[i]


@kernel
def _restrict(
    level: int, shapes: Levels, starts: Levels, right: Flat, down: Flat, rhs: Flat, v: Flat
) -> None:
    """`rhs` of the next level: the residual summed over blocks of 2x2. After a sweep from zero
    pixels of colour 1 have none, and of the others' remains what their neighbours have brought."""
    height, width = shapes[level]
    pitch, step = np.uint64(width + 2), np.uint64(width + 3)
    for y in range(shapes[level + 1, 0]):
        fine = first_pixel(starts[level], width, 2 * y)
        coarse = first_pixel(starts[level + 1], shapes[level + 1, 1], y)
        pairs = np.uint64(width // 2 if 2 * y + 1 < height else 0)
        for x in range(np.uint64(shapes[level + 1, 1])):
            i = fine + x + x
            total = links(v, right, down, i, pitch)
            if x < pairs:
                total += links(v, right, down, i + step, pitch)
            rhs[coarse + x] = total


@kernel
def _prolong(level: int, shapes: Levels, starts: Levels, v: Flat) -> None:
    """Adds the next level's values to their blocks of 2x2: to the pixels of colour 0, since the
    sweep that follows replaces the others."""
    height, width = shapes[level]
    one = np.uint64(1)
    for y in range(height):
        first = first_pixel(starts[level], width, y)
        coarse = first_pixel(starts[level + 1], shapes[level + 1, 1], y // 2)
        for x in range(np.uint64(y & 1), np.uint64(width), np.uint64(2)):
            v[first + x] += v[coarse + (x >> one)]
