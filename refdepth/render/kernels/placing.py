"""Where the pixels of one row lie in the texture.

A band's triangles stand in a table, one column each, and every pixel says by its mark which column
it sees. Column 0 belongs to pixels that see nothing: it leads to the first texel. The passes over
a row are short loops between small buffers: compiled code keeps few things in flight at a time, and
those that look nothing up become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from refdepth.render.kernels.geometry import KERNEL, SLACK, Floats, Ids, planes

CONTRACTED = {**KERNEL, "fastmath": {"contract"}}
"""Multiplications and additions may be fused, where nothing else has to come to the same bits."""

TABLE_ROWS = 19
"""Rows of a table: 0 to 8 the planes N, U and V of `shade`, 9 to 17 the planes A_0, A_1 and A_2 of
`geometry`, 18 the least value of a covered pixel's A_i . p, NaN for a triangle that is not drawn.
"""

Table = NDArray[np.float64]
Marks = NDArray[np.int32]


@njit(**KERNEL)
def fill_table(q: Floats, view: int, triangles: Ids, uv: Floats, listed: Ids, table: Table) -> None:
    """Fills `table` (TABLE_ROWS, n + 1) for the n triangles `listed`; u and v are moved so that
    whole numbers are texel centres."""
    for row in range(TABLE_ROWS):
        table[row, 0] = 0
    table[2, 0] = 1
    for entry in range(len(listed)):
        t = np.uint64(listed[entry])
        i0, i1, i2 = (
            np.uint64(triangles[t, 0]),
            np.uint64(triangles[t, 1]),
            np.uint64(triangles[t, 2]),
        )
        drawn, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
        column = np.uint64(entry + 1)
        if not drawn:
            table[:, column] = np.nan
            continue
        u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
        v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
        table[0, column] = ax + bx + cx
        table[1, column] = ay + by + cy
        table[2, column] = az + bz + cz
        table[3, column] = u0 * ax + u1 * bx + u2 * cx
        table[4, column] = u0 * ay + u1 * by + u2 * cy
        table[5, column] = u0 * az + u1 * bz + u2 * cz
        table[6, column] = v0 * ax + v1 * bx + v2 * cx
        table[7, column] = v0 * ay + v1 * by + v2 * cy
        table[8, column] = v0 * az + v1 * bz + v2 * cz
        table[9, column], table[10, column], table[11, column] = ax, ay, az
        table[12, column], table[13, column], table[14, column] = bx, by, bz
        table[15, column], table[16, column], table[17, column] = cx, cy, cz
        table[18, column] = -SLACK * (abs(az) + abs(bz) + abs(cz))


@njit(**CONTRACTED)
def place(marks: Marks, table: Table, y: int, w: Floats, u: Floats, v: Floats) -> None:
    """Depth w and place in the texture (u, v) of each pixel of row `y`."""
    depths(marks, table, y, w)
    coordinates(marks, table, 3, y, w, u)
    coordinates(marks, table, 6, y, w, v)


@njit(**CONTRACTED)
def depths(marks: Marks, table: Table, y: int, out: Floats) -> None:
    """w = 1 / (N . p) for each pixel of row `y`."""
    x_plane, y_plane, rest = table[0], table[1], table[2]
    for x in range(len(marks)):
        # Unsigned: no code for indices that count from the end.
        k = np.uint64(marks[x])
        out[x] = 1.0 / (x_plane[k] * (x + 0.5) + y_plane[k] * (y + 0.5) + rest[k])


@njit(**CONTRACTED)
def coordinates(marks: Marks, table: Table, first: int, y: int, depth: Floats, out: Floats) -> None:
    """w (P . p), with the plane P in the table's rows from `first` on, for each pixel of row `y`;
    `depth` is w."""
    x_plane, y_plane, rest = table[first], table[first + 1], table[first + 2]
    for x in range(len(marks)):
        k = np.uint64(marks[x])
        out[x] = (x_plane[k] * (x + 0.5) + y_plane[k] * (y + 0.5) + rest[k]) * depth[x]


@njit(**CONTRACTED)
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
