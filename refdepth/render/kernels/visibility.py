"""Which triangle each pixel sees.

The picture is cut into bands of rows; each triangle is listed under the bands it can touch, and
each (view, band) is one work item that owns its pixels. The split and the order inside a band do
not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from refdepth.render.kernels.geometry import (
    KERNEL,
    PARALLEL_KERNEL,
    SLACK,
    pixel_box,
    planes,
)

# Triangles are listed by this many work items a view.
LISTING_PARTS = 8
# Pixels of one band: its ids, depths and colours stay in a core's cache.
BAND_PIXELS = 20_000


def band_rows(height, width):
    """Rows of one band."""
    return max(8, min(height, BAND_PIXELS // width))


@njit(**PARALLEL_KERNEL)
def count_triangles(q, triangles, height, width, rows, boxes, counts):
    """Fills `boxes` (B, T, 4) int16 with pixel boxes and `counts` (B, bands, parts) with how many
    triangles each part adds to each band."""
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
                for band in range(top // rows, bottom // rows + 1):
                    counts[view, band, part] += 1


@njit(**PARALLEL_KERNEL)
def list_triangles(boxes, rows, starts, listed):
    """Writes triangle indices into `listed`, from `starts` (B, bands, parts) on, in rising order
    within each band."""
    views, bands, parts = starts.shape
    total = boxes.shape[1]
    for item in prange(views * parts):
        view, part = item // parts, item % parts
        cursor = np.empty(bands, np.int64)
        for band in range(bands):
            cursor[band] = starts[view, band, part]
        for t in range(total * part // parts, total * (part + 1) // parts):
            top, bottom = boxes[view, t, 2], boxes[view, t, 3]
            if boxes[view, t, 0] <= boxes[view, t, 1] and top <= bottom:
                for band in range(top // rows, bottom // rows + 1):
                    listed[cursor[band]] = t
                    cursor[band] += 1


def bin_triangles(q, triangles, height, width, rows):
    """Lists the triangles of each band.

    Returns boxes (B, T, 4) int16 (left, right, top, bottom, inclusive), bounds (B * bands + 1,)
    and listed: band k of view b holds the triangles listed[bounds[i]:bounds[i + 1]],
    i = b * bands + k.
    """
    views, bands = q.shape[0], -(-height // rows)
    boxes = np.empty((views, triangles.shape[0], 4), np.int16)
    counts = np.zeros((views, bands, LISTING_PARTS), np.int64)
    count_triangles(q, triangles, height, width, rows, boxes, counts)
    ends = np.cumsum(counts.ravel())
    starts = (ends - counts.ravel()).reshape(counts.shape)
    listed = np.empty(ends[-1] if ends.size else 0, np.int32)
    list_triangles(boxes, rows, starts, listed)
    bounds = np.append(starts[:, :, 0].ravel(), len(listed))
    return boxes, bounds, listed


@njit(**KERNEL)
def draw_band(q, triangles, boxes, listed, view, first_row, last_row, ids, depth):
    """Nearest triangle (id = index + 1, 0 = none) and depth of each pixel of one band. Equal
    depths (as stored) go to the triangle that comes first."""
    width = ids.shape[2]
    for y in range(first_row, last_row):
        for x in range(width):
            ids[view, y, x] = 0
            depth[view, y, x] = 0
    for entry in range(len(listed)):
        t = listed[entry]
        drawn, ax, ay, az, bx, by, bz, cx, cy, cz = planes(
            q, view, triangles[t, 0], triangles[t, 1], triangles[t, 2]
        )
        if not drawn:
            continue
        slack = -SLACK * (abs(az) + abs(bz) + abs(cz))
        left, right = int(boxes[view, t, 0]), int(boxes[view, t, 1])
        for y in range(
            max(int(boxes[view, t, 2]), first_row), min(boxes[view, t, 3] + 1, last_row)
        ):
            py = y + 0.5
            a_row, b_row, c_row = ay * py + az, by * py + bz, cy * py + cz
            for x in range(left, right + 1):
                px = x + 0.5
                a, b, c = ax * px + a_row, bx * px + b_row, cx * px + c_row
                if a >= slack and b >= slack and c >= slack:
                    # `depth` holds 1 / w until the band is finished.
                    nearness = depth.dtype.type(a + b + c)
                    if nearness > depth[view, y, x]:
                        depth[view, y, x] = nearness
                        ids[view, y, x] = t + 1
    for y in range(first_row, last_row):
        for x in range(width):
            if ids[view, y, x] > 0:
                depth[view, y, x] = 1 / depth[view, y, x]


@njit(**PARALLEL_KERNEL)
def draw(q, triangles, boxes, bounds, listed, rows, ids, depth):
    """Fills `ids` (B, H, W) int32 and `depth` (B, H, W) of all views."""
    views, height = ids.shape[0], ids.shape[1]
    bands = (height + rows - 1) // rows
    for item in prange(views * bands):
        view, first_row = item // bands, item % bands * rows
        entries = listed[bounds[item] : bounds[item + 1]]
        last_row = min(first_row + rows, height)
        draw_band(q, triangles, boxes, entries, view, first_row, last_row, ids, depth)
