"""Where the pixels of one row lie in the texture.

A band's triangles stand in a table, one column each, and every pixel says by its mark which column
it sees. Column 0 belongs to pixels that see nothing: it leads to the first texel. The passes over
a row are short loops between small buffers: compiled code keeps few things in flight at a time, and
those that look nothing up become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.render.kernels.geometry import Floats, Ids, Plane

CONTRACTED = {"contract"}
"""Multiplications and additions may be fused, where nothing else has to come to the same bits."""

TABLE_ROWS = 9
"""Rows of a table: the planes N, U and V of `shade`."""

Table = NDArray[np.float64]
Marks = NDArray[np.int32]


@kernel(fastmath=CONTRACTED)
def fill_column(
    table: Table,
    column: int,
    A: Plane,
    B: Plane,
    C: Plane,
    uv: Floats,
    i0: int,
    i1: int,
    i2: int,
) -> None:
    """Enters a triangle with the planes A, B and C of its corners `i0`, `i1` and `i2`."""
    u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
    v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
    for axis in range(3):
        table[axis, column] = A[axis] + B[axis] + C[axis]
        table[3 + axis, column] = u0 * A[axis] + u1 * B[axis] + u2 * C[axis]
        table[6 + axis, column] = v0 * A[axis] + v1 * B[axis] + v2 * C[axis]


@kernel(fastmath=CONTRACTED)
def place(marks: Marks, table: Table, y: int, w: Floats, u: Floats, v: Floats) -> None:
    """Depth w and place in the texture (u, v) of each pixel of row `y`."""
    depths(marks, table, y, w)
    coordinates(marks, table[3:6], y, w, u)
    coordinates(marks, table[6:9], y, w, v)


@kernel(fastmath=CONTRACTED)
def depths(marks: Marks, table: Table, y: int, out: Floats) -> None:
    """w = 1 / (N . p) for each pixel of row `y`."""
    x_plane, y_plane, rest = table[0], table[1], table[2]
    for x in range(len(marks)):
        # Unsigned: no code for indices that count from the end.
        k = np.uint64(marks[x])
        out[x] = 1.0 / (x_plane[k] * (x + 0.5) + y_plane[k] * (y + 0.5) + rest[k])


@kernel(fastmath=CONTRACTED)
def coordinates(marks: Marks, table: Table, y: int, depth: Floats, out: Floats) -> None:
    """w (P . p), with the planes P in three rows of a table, for each pixel of row `y`; `depth` is
    w."""
    x_plane, y_plane, rest = table[0], table[1], table[2]
    for x in range(len(marks)):
        k = np.uint64(marks[x])
        out[x] = (x_plane[k] * (x + 0.5) + y_plane[k] * (y + 0.5) + rest[k]) * depth[x]


@kernel(fastmath=CONTRACTED)
def split(position: Floats, last: int, texel: Ids, part: Floats) -> None:
    """The texel before each `position`, and how far it is from there to the next; positions are
    kept within [0, last], NaN becomes 0."""
    before_last = np.int32(max(last - 1, 0))
    for x in range(len(position)):
        place = position[x] if position[x] > 0.0 else 0.0
        place = place if place < last else float(last)
        whole = min(np.int32(place), before_last)
        texel[x] = whole
        part[x] = place - whole
