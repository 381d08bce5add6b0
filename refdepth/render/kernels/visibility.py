"""Which triangle each pixel sees.

The picture is cut into bands of rows; each triangle is listed under the bands it can touch, and
each (view, band) is one work item that owns its pixels. The split and the order inside a band do
not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from refdepth.render.kernels.geometry import (
    KERNEL,
    PARALLEL_KERNEL,
    Floats,
    Ids,
    Offsets,
    pixel_box,
)
from refdepth.render.kernels.placing import TABLE_ROWS, Table, fill_table

LISTING_PARTS = 8
"""Work items a view when triangles are listed."""
BAND_PIXELS = 20_000
"""About as many pixels as one band has: what a band needs stays in a core's cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bands:
    """The triangles of each band of each view: band k of view b has the triangles
    `listed[bounds[i]:bounds[i + 1]]` with i = b * (bands a view) + k."""

    shift: int
    """A band has 2 ** shift rows."""
    boxes: NDArray[np.int16]
    """Pixels that a triangle can cover, (B, T, 4): left, right, top, bottom, inclusive."""
    bounds: Offsets
    listed: Ids


@njit(**PARALLEL_KERNEL)
def count_triangles(
    q: Floats,
    triangles: Ids,
    height: int,
    width: int,
    shift: int,
    boxes: NDArray[np.int16],
    counts: Offsets,
) -> None:
    """Fills `boxes` and adds to `counts` (B, bands, parts) how many triangles each part of the
    triangles brings to each band."""
    parts = counts.shape[2]
    total = triangles.shape[0]
    for item in prange(q.shape[0] * parts):
        view, part = item // parts, item % parts
        for t in range(total * part // parts, total * (part + 1) // parts):
            left, right, top, bottom = pixel_box(
                q, view, triangles[t, 0], triangles[t, 1], triangles[t, 2], height, width
            )
            boxes[view, t, 0] = left
            boxes[view, t, 1] = right
            boxes[view, t, 2] = top
            boxes[view, t, 3] = bottom
            if left <= right and top <= bottom:
                for band in range(top >> shift, (bottom >> shift) + 1):
                    counts[view, band, part] += 1


@njit(**PARALLEL_KERNEL)
def list_triangles(boxes: NDArray[np.int16], shift: int, starts: Offsets, listed: Ids) -> None:
    """Writes triangle indices into `listed`, from `starts` (B, bands, parts) on, in rising order
    within each band."""
    views, _, parts = starts.shape
    total = boxes.shape[1]
    for item in prange(views * parts):
        view, part = item // parts, item % parts
        cursor = starts[view, :, part].copy()
        for t in range(total * part // parts, total * (part + 1) // parts):
            top, bottom = boxes[view, t, 2], boxes[view, t, 3]
            if boxes[view, t, 0] <= boxes[view, t, 1] and top <= bottom:
                for band in range(top >> shift, (bottom >> shift) + 1):
                    listed[cursor[band]] = t
                    cursor[band] += 1


def list_bands(q: Floats, triangles: Ids, height: int, width: int) -> Bands:
    """Cuts the picture into bands and lists their triangles."""
    shift = max(3, (BAND_PIXELS // width).bit_length())
    views, bands = q.shape[0], ((height - 1) >> shift) + 1
    boxes = np.empty((views, triangles.shape[0], 4), np.int16)
    counts = np.zeros((views, bands, LISTING_PARTS), np.int64)
    count_triangles(q, triangles, height, width, shift, boxes, counts)
    ends = np.cumsum(counts.ravel())
    starts = (ends - counts.ravel()).reshape(counts.shape)
    listed = np.empty(ends[-1] if ends.size else 0, np.int32)
    list_triangles(boxes, shift, starts, listed)
    bounds = np.append(starts[:, :, 0].ravel(), len(listed))
    return Bands(shift=shift, boxes=boxes, bounds=bounds, listed=listed)


@njit(**KERNEL)
def draw_band(
    table: Table,
    boxes: NDArray[np.int16],
    listed: Ids,
    first: int,
    marks: Ids,
    nearness: Floats,
) -> None:
    """Marks each pixel of a band of rows, `first` the uppermost, with the column of the nearest
    triangle in `table` (0 = none). `boxes` (T, 4) are the view's; `nearness`, as large as `marks`
    (rows, W), ends as 1 / w, 0 where nothing is. Equal values, as stored, go to the triangle that
    comes first."""
    marks[:] = 0
    nearness[:] = 0
    scalar = nearness.dtype.type
    for entry in range(len(listed)):
        k = np.uint64(entry + 1)
        box = boxes[np.uint64(listed[entry])]
        ax, ay, az = table[9, k], table[10, k], table[11, k]
        bx, by, bz = table[12, k], table[13, k], table[14, k]
        cx, cy, cz = table[15, k], table[16, k], table[17, k]
        slack = table[18, k]
        left, right = int(box[0]), int(box[1])
        top, bottom = max(int(box[2]) - first, 0), min(int(box[3]) - first, len(marks) - 1)
        for row in range(top, bottom + 1):
            py = first + row + 0.5
            a_row, b_row, c_row = ay * py + az, by * py + bz, cy * py + cz
            near_row, mark_row = nearness[row], marks[row]
            for x in range(left, right + 1):
                px = x + 0.5
                a, b, c = ax * px + a_row, bx * px + b_row, cx * px + c_row
                if a >= slack and b >= slack and c >= slack:
                    near = scalar(a + b + c)
                    if near > near_row[np.uint64(x)]:
                        near_row[np.uint64(x)] = near
                        mark_row[np.uint64(x)] = k


@njit(**KERNEL)
def name_triangles(marks: Ids, listed: Ids, ids: Ids, depth: Floats) -> None:
    """Turns a band's marks into ids (triangle index + 1), and 1 / w into w."""
    for row in range(len(marks)):
        for x in range(marks.shape[1]):
            mark = marks[row, x]
            ids[row, x] = 0
            if mark > 0:
                ids[row, x] = listed[mark - 1] + 1
                depth[row, x] = 1 / depth[row, x]


@njit(**PARALLEL_KERNEL)
def draw(
    q: Floats,
    triangles: Ids,
    boxes: NDArray[np.int16],
    bounds: Offsets,
    listed: Ids,
    shift: int,
    ids: Ids,
    depth: Floats,
) -> None:
    """Fills `ids` (B, H, W) with the nearest triangle's index + 1 (0 = none) and `depth`
    (B, H, W)."""
    views, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    no_uv = np.zeros((q.shape[1], 2))
    for item in prange(views * bands):
        view, first = item // bands, (item % bands) << shift
        rows = slice(first, min(first + (1 << shift), height))
        own = listed[bounds[item] : bounds[item + 1]]
        table = np.empty((TABLE_ROWS, len(own) + 1))
        fill_table(q, view, triangles, no_uv, own, table)
        marks = np.empty((rows.stop - first, width), np.int32)
        draw_band(table, boxes[view], own, first, marks, depth[view, rows])
        name_triangles(marks, own, ids[view, rows], depth[view, rows])
