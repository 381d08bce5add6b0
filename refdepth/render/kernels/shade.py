"""The fused path: texture colour of each visible pixel, and its gradient to the vertices.

Texture coordinates are interpolated as u = w (U . p) with w = 1 / (N . p) and the planes
U = sum u_i A_i, N = sum A_i of `geometry`. Differentiating M a = p gives, for vertex i with
barycentric b_i = w (A_i . p),

    du / dq_i = b_i (u N - U),        dw / dq_i = b_i w N.

So with the gradients g_u, g_v, g_w of a pixel, s = g_u u + g_v v + g_w w and the sums over the
triangle's pixels S = sum s w p, S_u = sum g_u w p, S_v = sum g_v w p, vertex i receives

    (A_i . S) N - (A_i . S_u) U - (A_i . S_v) V.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from refdepth.render.kernels.geometry import (
    KERNEL,
    PARALLEL_KERNEL,
    Floats,
    Ids,
    Offsets,
    clamp,
    planes,
)
from refdepth.render.kernels.visibility import draw_triangle

Lanes = tuple[int, ...]
"""A tuple as long as the texture has channels, which makes their number a constant of the compiled
code."""


@njit(**KERNEL)
def texture_planes(
    matrix: tuple[float, ...], uv: Floats, i0: int, i1: int, i2: int, row: int, table: Floats
) -> None:
    """Writes N, U, V into `table[row]`; u and v moved so that whole numbers are texel centres."""
    ax, ay, az, bx, by, bz, cx, cy, cz = matrix
    u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
    v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
    table[row, 0], table[row, 1], table[row, 2] = ax + bx + cx, ay + by + cy, az + bz + cz
    table[row, 3] = u0 * ax + u1 * bx + u2 * cx
    table[row, 4] = u0 * ay + u1 * by + u2 * cy
    table[row, 5] = u0 * az + u1 * bz + u2 * cz
    table[row, 6] = v0 * ax + v1 * bx + v2 * cx
    table[row, 7] = v0 * ay + v1 * by + v2 * cy
    table[row, 8] = v0 * az + v1 * bz + v2 * cz


@njit(**KERNEL)
def texture_position(table: Floats, row: int, px: float, py: float) -> tuple[float, float, float]:
    """w, u and v of the triangle in `table[row]` at a pixel centre."""
    w = 1.0 / (table[row, 0] * px + table[row, 1] * py + table[row, 2])
    u = (table[row, 3] * px + table[row, 4] * py + table[row, 5]) * w
    v = (table[row, 6] * px + table[row, 7] * py + table[row, 8]) * w
    return w, u, v


@njit(**PARALLEL_KERNEL)
def draw_and_shade(
    q: Floats,
    triangles: Ids,
    uv: Floats,
    texture: Floats,
    lanes: Lanes,
    boxes: NDArray[np.int16],
    bounds: Offsets,
    listed: Ids,
    shift: int,
    ids: Ids,
    depth: Floats,
    color: Floats,
) -> None:
    """Fills `ids` and `depth` (B, H, W) as `visibility.draw` does, and `color` (B, H, W, C) with
    the bilinear texture colour. Beyond the outer texel centres the border's colour holds."""
    views, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    scalar = color.dtype.type
    for item in prange(views * bands):
        view, first = item // bands, (item % bands) << shift
        last = min(first + (1 << shift), height) - 1
        ids[view, first : last + 1] = 0
        depth[view, first : last + 1] = 0
        start = bounds[item]
        table = np.empty((bounds[item + 1] - start, 9))
        for row in range(len(table)):
            t = listed[start + row]
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            drawn, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
            if drawn:
                matrix = (ax, ay, az, bx, by, bz, cx, cy, cz)
                texture_planes(matrix, uv, i0, i1, i2, row, table)
                draw_triangle(
                    matrix,
                    int(boxes[view, t, 0]),
                    int(boxes[view, t, 1]),
                    max(int(boxes[view, t, 2]), first),
                    min(int(boxes[view, t, 3]), last),
                    row + 1,
                    view,
                    ids,
                    depth,
                )
        for y in range(first, last + 1):
            for x in range(width):
                row = ids[view, y, x] - 1
                if row < 0:
                    for lane in range(len(lanes)):
                        color[view, y, x, lane] = 0
                    continue
                ids[view, y, x] = listed[start + row] + 1
                depth[view, y, x] = 1 / depth[view, y, x]
                _, u, v = texture_position(table, row, x + 0.5, y + 0.5)
                u, v = clamp(u, last_u), clamp(v, last_v)
                u0, v0 = int(u), int(v)
                u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
                fu, fv = scalar(u - u0), scalar(v - v0)
                s11 = fu * fv
                s01, s10 = fu - s11, fv - s11
                s00 = 1 - fu - s10
                for lane in range(len(lanes)):
                    color[view, y, x, lane] = (
                        s00 * texture[v0, u0, lane]
                        + s01 * texture[v0, u1, lane]
                        + s10 * texture[v1, u0, lane]
                        + s11 * texture[v1, u1, lane]
                    )


@njit(**PARALLEL_KERNEL)
def vertex_ranges(triangles: Ids, bounds: Offsets, listed: Ids, items: int) -> Offsets:
    """First vertex and one past the last that each work item touches (items, 2); item i has the
    bands n i // items to n (i + 1) // items of all n."""
    ranges = np.zeros((items, 2), np.int64)
    bands = len(bounds) - 1
    for item in prange(items):
        low, high = np.int64(2**31), np.int64(0)
        for entry in range(bounds[bands * item // items], bounds[bands * (item + 1) // items]):
            for corner in range(3):
                vertex = np.int64(triangles[listed[entry], corner])
                low, high = min(low, vertex), max(high, vertex + 1)
        ranges[item, 0], ranges[item, 1] = min(low, high), high
    return ranges


@njit(**PARALLEL_KERNEL)
def shade_backward(
    q: Floats,
    triangles: Ids,
    uv: Floats,
    texture: Floats,
    lanes: Lanes,
    bounds: Offsets,
    listed: Ids,
    shift: int,
    ids: Ids,
    grad_color: Floats,
    grad_depth: Floats,
    ranges: Offsets,
    offsets: Offsets,
    partial: Floats,
) -> None:
    """Sums the gradient to the vertices of each work item's range into its own stretch of
    `partial` (N, 3), which starts at `offsets[item]`. `grad_depth` may be empty: no gradient."""
    views, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    items = len(ranges)
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    with_depth = grad_depth.size > 0
    scalar = texture.dtype.type
    for item in prange(items):
        base = offsets[item] - ranges[item, 0]
        partial[offsets[item] : offsets[item + 1]] = 0
        row_of = np.empty(len(triangles), np.int32)
        for band in range(views * bands * item // items, views * bands * (item + 1) // items):
            view, first = band // bands, (band % bands) << shift
            last = min(first + (1 << shift), height) - 1
            start = bounds[band]
            table = np.empty((bounds[band + 1] - start, 9))
            sums = np.zeros(table.shape)
            inverse = np.empty(table.shape)
            for row in range(len(table)):
                t = listed[start + row]
                row_of[t] = row
                i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
                inverse[row, 0], inverse[row, 1], inverse[row, 2] = ax, ay, az
                inverse[row, 3], inverse[row, 4], inverse[row, 5] = bx, by, bz
                inverse[row, 6], inverse[row, 7], inverse[row, 8] = cx, cy, cz
                texture_planes((ax, ay, az, bx, by, bz, cx, cy, cz), uv, i0, i1, i2, row, table)
            for y in range(first, last + 1):
                for x in range(width):
                    t = ids[view, y, x] - 1
                    if t < 0:
                        continue
                    row = row_of[t]
                    px, py = x + 0.5, y + 0.5
                    w, u, v = texture_position(table, row, px, py)
                    inside_u, inside_v = 0 <= u < last_u, 0 <= v < last_v
                    clamped_u, clamped_v = clamp(u, last_u), clamp(v, last_v)
                    u0, v0 = int(clamped_u), int(clamped_v)
                    u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
                    fu, fv = scalar(clamped_u - u0), scalar(clamped_v - v0)
                    d00 = d01 = d10 = d11 = scalar(0)
                    for lane in range(len(lanes)):
                        g = grad_color[view, y, x, lane]
                        d00 += g * texture[v0, u0, lane]
                        d01 += g * texture[v0, u1, lane]
                        d10 += g * texture[v1, u0, lane]
                        d11 += g * texture[v1, u1, lane]
                    grad_u = w * ((d01 - d00) * (1 - fv) + (d11 - d10) * fv) if inside_u else 0.0
                    grad_v = w * ((d10 - d00) * (1 - fu) + (d11 - d01) * fu) if inside_v else 0.0
                    both = grad_u * u + grad_v * v
                    if with_depth:
                        both += grad_depth[view, y, x] * w * w
                    sums[row, 0] += both * px
                    sums[row, 1] += both * py
                    sums[row, 2] += both
                    sums[row, 3] += grad_u * px
                    sums[row, 4] += grad_u * py
                    sums[row, 5] += grad_u
                    sums[row, 6] += grad_v * px
                    sums[row, 7] += grad_v * py
                    sums[row, 8] += grad_v
            for row in range(len(table)):
                touched = False
                for k in range(9):
                    touched |= sums[row, k] != 0
                if not touched:
                    continue
                t = listed[start + row]
                for corner in range(3):
                    vertex = base + triangles[t, corner]
                    spread(sums, table, inverse, row, corner, vertex, partial)


@njit(**KERNEL)
def spread(
    sums: Floats,
    table: Floats,
    inverse: Floats,
    row: int,
    corner: int,
    vertex: int,
    partial: Floats,
) -> None:
    """Adds a triangle's gradient to one of its vertices."""
    ax, ay, az = (
        inverse[row, 3 * corner],
        inverse[row, 3 * corner + 1],
        inverse[row, 3 * corner + 2],
    )
    s = ax * sums[row, 0] + ay * sums[row, 1] + az * sums[row, 2]
    s_u = ax * sums[row, 3] + ay * sums[row, 4] + az * sums[row, 5]
    s_v = ax * sums[row, 6] + ay * sums[row, 7] + az * sums[row, 8]
    for axis in range(3):
        partial[vertex, axis] += s * table[row, axis]
        partial[vertex, axis] -= s_u * table[row, 3 + axis] + s_v * table[row, 6 + axis]
