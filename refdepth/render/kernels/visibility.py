"""Which triangle each pixel sees.

The picture is cut into bands of rows; each triangle is listed under the bands it can touch, and
each (view, band) is one work item that owns its pixels. The split and the order inside a band do
not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.render.kernels.geometry import (
    SLACK,
    Floats,
    Ids,
    Offsets,
    pixel_box,
    planes,
    project_vertices,
)
from refdepth.render.kernels.placing import Table, fill_column

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


@kernel
def count_triangles(
    q: Floats,
    triangles: Ids,
    height: int,
    width: int,
    shift: int,
    boxes: NDArray[np.int16],
    counts: Offsets,
) -> None:
    """Fills `boxes`, and `counts` (B, bands) with how many triangles each band has."""
    corners = np.empty((3, q.shape[1]))
    for view in range(q.shape[0]):
        project_vertices(q[view], corners)
        own = counts[view]
        own[:] = 0
        for t in range(triangles.shape[0]):
            left, right, top, bottom = pixel_box(
                corners, triangles[t, 0], triangles[t, 1], triangles[t, 2], height, width
            )
            boxes[view, t, 0] = left
            boxes[view, t, 1] = right
            boxes[view, t, 2] = top
            boxes[view, t, 3] = bottom
            if left <= right and top <= bottom:
                for band in range(top >> shift, (bottom >> shift) + 1):
                    own[band] += 1


@kernel
def list_triangles(boxes: NDArray[np.int16], shift: int, starts: Offsets, listed: Ids) -> None:
    """Writes triangle indices into `listed`, from `starts` (B, bands) on, in rising order within
    each band."""
    for view in range(starts.shape[0]):
        cursor = starts[view].copy()
        for t in range(boxes.shape[1]):
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
    counts = np.empty((views, bands), np.int64)
    count_triangles(q, triangles, height, width, shift, boxes, counts)
    bounds = np.append(0, np.cumsum(counts.ravel()))
    listed = np.empty(bounds[-1], np.int32)
    list_triangles(boxes, shift, bounds[:-1].reshape(counts.shape), listed)
    return Bands(shift=shift, boxes=boxes, bounds=bounds, listed=listed)


@kernel
def draw_band(
    q: Floats,
    view: int,
    triangles: Ids,
    uv: Floats,
    boxes: NDArray[np.int16],
    listed: Ids,
    first: int,
    marks: Ids,
    nearness: Floats,
    table: Table,
) -> None:
    """Marks each pixel of a band of rows, `first` the uppermost, with its nearest triangle: the
    place in `listed` plus 1, 0 = none. `boxes` (T, 4) are the view's; `nearness`, as large as
    `marks` (rows, W), ends as 1 / w, 0 where nothing is. Equal values, as stored, go to the
    triangle that comes first. `table`, unless it is empty, is filled for `place`."""
    marks[:] = 0
    nearness[:] = 0
    scalar = nearness.dtype.type
    kept = table.size > 0
    if kept:
        # Where nothing is seen: u = v = 0, w = 1.
        table[:, 0] = 0
        table[2, 0] = 1
    for entry in range(len(listed)):
        k, t = np.uint64(entry + 1), np.uint64(listed[entry])
        i0, i1, i2 = (
            np.uint64(triangles[t, 0]),
            np.uint64(triangles[t, 1]),
            np.uint64(triangles[t, 2]),
        )
        drawn, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
        if not drawn:
            continue
        if kept:
            fill_column(table, k, (ax, ay, az), (bx, by, bz), (cx, cy, cz), uv, i0, i1, i2)
        slack = -SLACK * (abs(az) + abs(bz) + abs(cz))
        left, right = int(boxes[t, 0]), int(boxes[t, 1])
        top, bottom = (
            max(int(boxes[t, 2]) - first, 0),
            min(int(boxes[t, 3]) - first, len(marks) - 1),
        )
        for row in range(top, bottom + 1):
            py = first + row + 0.5
            a_row, b_row, c_row = ay * py + az, by * py + bz, cy * py + cz
            r = np.uint64(row)
            for x in range(left, right + 1):
                px = x + 0.5
                a, b, c = ax * px + a_row, bx * px + b_row, cx * px + c_row
                if a >= slack and b >= slack and c >= slack:
                    near = scalar(a + b + c)
                    if near > nearness[r, np.uint64(x)]:
                        nearness[r, np.uint64(x)] = near
                        marks[r, np.uint64(x)] = k


@kernel
def name_triangles(marks: Ids, listed: Ids, ids: Ids, depth: Floats) -> None:
    """Turns a band's marks into ids (triangle index + 1), and 1 / w into w."""
    names = np.zeros(len(listed) + 1, np.int32)
    for entry in range(len(listed)):
        names[entry + 1] = listed[entry] + 1
    scalar = depth.dtype.type
    for row in range(len(marks)):
        mark_row, id_row, depth_row = marks[row], ids[row], depth[row]
        for x in range(len(mark_row)):
            id_row[x] = names[np.uint64(mark_row[x])]
        for x in range(len(mark_row)):
            nearness = depth_row[x]
            depth_row[x] = scalar(1) / nearness if nearness > 0 else scalar(0)


@kernel
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
    no_uv, no_table = np.empty((0, 2), q.dtype), np.empty((0, 0))
    for item in range(views * bands):
        view, first = item // bands, (item % bands) << shift
        rows = slice(first, min(first + (1 << shift), height))
        own = listed[bounds[item] : bounds[item + 1]]
        marks = np.empty((rows.stop - first, width), np.int32)
        draw_band(
            q, view, triangles, no_uv, boxes[view], own, first, marks, depth[view, rows], no_table
        )
        name_triangles(marks, own, ids[view, rows], depth[view, rows])
