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

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from refdepth.render.kernels.geometry import (
    KERNEL,
    PARALLEL_KERNEL,
    SLACK,
    Floats,
    Ids,
    Offsets,
    clamp,
    planes,
)

FUSING = {**PARALLEL_KERNEL, "fastmath": {"contract"}}
"""Multiplications and additions may be fused, where nothing else has to come to the same bits."""

Lanes = tuple[int, ...]
"""A tuple as long as there are channels, which makes their number a constant of the compiled code.
"""


@njit(**KERNEL)
def corners(u: float, v: float, last_u: int, last_v: int) -> tuple[Any, ...]:
    """Indices of the four texels around a place inside the texture (rows one after the other), and
    how far it is from the first of them."""
    u0, v0 = np.int32(u), np.int32(v)
    pitch = np.uint64(last_u + 1)
    t00 = np.uint64(v0) * pitch + np.uint64(u0)
    right = np.uint64(u0 < last_u)
    t10 = t00 + (pitch if v0 < last_v else np.uint64(0))
    return t00, t00 + right, t10, t10 + right, u - u0, v - v0


@njit(**KERNEL)
def texture_planes(
    matrix: tuple[float, ...], uv: Floats, i0: int, i1: int, i2: int
) -> tuple[float, ...]:
    """N, U and V, flattened; u and v moved so that whole numbers are texel centres."""
    ax, ay, az, bx, by, bz, cx, cy, cz = matrix
    u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
    v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
    return (
        ax + bx + cx,
        ay + by + cy,
        az + bz + cz,
        u0 * ax + u1 * bx + u2 * cx,
        u0 * ay + u1 * by + u2 * cy,
        u0 * az + u1 * bz + u2 * cz,
        v0 * ax + v1 * bx + v2 * cx,
        v0 * ay + v1 * by + v2 * cy,
        v0 * az + v1 * bz + v2 * cz,
    )


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
    the bilinear texture colour. Beyond the outer texel centres the border's colour holds.

    A pixel is shaded as soon as a triangle is the nearest so far: on a depth map's mesh few pixels
    are covered twice, and the triangle's planes are at hand.
    """
    views, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    texels = texture.reshape(-1, len(lanes))
    scalar = color.dtype.type
    for item in prange(views * bands):
        view, first = item // bands, (item % bands) << shift
        last = min(first + (1 << shift), height) - 1
        ids[view, first : last + 1] = 0
        depth[view, first : last + 1] = 0
        color[view, first : last + 1] = 0
        for entry in range(bounds[item], bounds[item + 1]):
            t = listed[entry]
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            drawn, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
            if not drawn:
                continue
            nx, ny, nz, ux, uy, uz, vx, vy, vz = texture_planes(
                (ax, ay, az, bx, by, bz, cx, cy, cz), uv, i0, i1, i2
            )
            slack = -SLACK * (abs(az) + abs(bz) + abs(cz))
            left, right = int(boxes[view, t, 0]), int(boxes[view, t, 1])
            for y in range(
                max(int(boxes[view, t, 2]), first), min(int(boxes[view, t, 3]), last) + 1
            ):
                py = y + 0.5
                a_row, b_row, c_row = ay * py + az, by * py + bz, cy * py + cz
                n_row, u_row, v_row = ny * py + nz, uy * py + uz, vy * py + vz
                for x in range(left, right + 1):
                    px = x + 0.5
                    a, b, c = ax * px + a_row, bx * px + b_row, cx * px + c_row
                    if a >= slack and b >= slack and c >= slack:
                        near = scalar(a + b + c)
                        if near > depth[view, y, x]:
                            depth[view, y, x] = near
                            ids[view, y, x] = t + 1
                            w = 1.0 / (nx * px + n_row)
                            u = clamp((ux * px + u_row) * w, last_u)
                            v = clamp((vx * px + v_row) * w, last_v)
                            t00, t01, t10, t11, du, dv = corners(u, v, last_u, last_v)
                            fu, fv = scalar(du), scalar(dv)
                            s11 = fu * fv
                            s01, s10 = fu - s11, fv - s11
                            s00 = scalar(1) - fu - s10
                            for lane in range(len(lanes)):
                                color[view, y, x, lane] = (
                                    s00 * texels[t00, lane]
                                    + s01 * texels[t01, lane]
                                    + s10 * texels[t10, lane]
                                    + s11 * texels[t11, lane]
                                )
        for y in range(first, last + 1):
            for x in range(width):
                if ids[view, y, x] > 0:
                    depth[view, y, x] = 1 / depth[view, y, x]


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


@njit(**FUSING)
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
    texels = texture.reshape(-1, len(lanes))
    with_depth = grad_depth.size > 0
    scalar = texture.dtype.type
    for item in prange(items):
        base = offsets[item] - ranges[item, 0]
        partial[offsets[item] : offsets[item + 1]] = 0
        # By id, so that 0, no triangle, is row 0.
        row_of = np.zeros(len(triangles) + 1, np.int32)
        for band in range(views * bands * item // items, views * bands * (item + 1) // items):
            view, first = band // bands, (band % bands) << shift
            last = min(first + (1 << shift), height) - 1
            start = bounds[band]
            # A_0, A_1, A_2, N, U, V of each triangle.
            table = np.empty((bounds[band + 1] - start + 1, 18))
            sums = np.zeros((len(table), 9))
            for row in range(1, len(table)):
                t = listed[start + row - 1]
                row_of[t + 1] = row
                i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
                matrix = (ax, ay, az, bx, by, bz, cx, cy, cz)
                rest = texture_planes(matrix, uv, i0, i1, i2)
                for k in range(9):
                    table[row, k] = matrix[k]
                    table[row, 9 + k] = rest[k]
            for y in range(first, last + 1):
                py = y + 0.5
                seen = ids[view, y]
                pull = grad_color[view, y]
                for x in range(width):
                    # Unsigned: no code for indices that count from the end.
                    mark = np.uint64(row_of[np.uint64(seen[x])])
                    px = x + 0.5
                    if mark == 0:
                        continue
                    w = 1.0 / (table[mark, 9] * px + table[mark, 10] * py + table[mark, 11])
                    u = (table[mark, 12] * px + table[mark, 13] * py + table[mark, 14]) * w
                    v = (table[mark, 15] * px + table[mark, 16] * py + table[mark, 17]) * w
                    inside_u, inside_v = (u >= 0) & (u < last_u), (v >= 0) & (v < last_v)
                    u, v = clamp(u, last_u), clamp(v, last_v)
                    t00, t01, t10, t11, du, dv = corners(u, v, last_u, last_v)
                    fu, fv = scalar(du), scalar(dv)
                    slope_u = slope_v = scalar(0)
                    for lane in range(len(lanes)):
                        g = pull[x, lane]
                        corner = texels[t00, lane]
                        above = texels[t01, lane] - corner
                        beside = texels[t10, lane] - corner
                        twist = texels[t11, lane] - texels[t10, lane] - above
                        slope_u += g * (above + fv * twist)
                        slope_v += g * (beside + fu * twist)
                    grad_u = w * slope_u if inside_u else 0.0
                    grad_v = w * slope_v if inside_v else 0.0
                    both = grad_u * u + grad_v * v
                    if with_depth:
                        both += grad_depth[view, y, x] * w * w
                    sums[mark, 0] += both * px
                    sums[mark, 1] += both * py
                    sums[mark, 2] += both
                    sums[mark, 3] += grad_u * px
                    sums[mark, 4] += grad_u * py
                    sums[mark, 5] += grad_u
                    sums[mark, 6] += grad_v * px
                    sums[mark, 7] += grad_v * py
                    sums[mark, 8] += grad_v
            for row in range(1, len(table)):
                touched = False
                for k in range(9):
                    touched |= sums[row, k] != 0
                if not touched:
                    continue
                t = listed[start + row - 1]
                for corner in range(3):
                    vertex = base + triangles[t, corner]
                    spread(sums, table, row, corner, vertex, partial)


@njit(**KERNEL)
def spread(
    sums: Floats,
    table: Floats,
    row: int,
    corner: int,
    vertex: int,
    partial: Floats,
) -> None:
    """Adds a triangle's gradient to one of its vertices."""
    ax, ay, az = (
        table[row, 3 * corner],
        table[row, 3 * corner + 1],
        table[row, 3 * corner + 2],
    )
    s = ax * sums[row, 0] + ay * sums[row, 1] + az * sums[row, 2]
    s_u = ax * sums[row, 3] + ay * sums[row, 4] + az * sums[row, 5]
    s_v = ax * sums[row, 6] + ay * sums[row, 7] + az * sums[row, 8]
    for axis in range(3):
        partial[vertex, axis] += s * table[row, 9 + axis]
        partial[vertex, axis] -= s_u * table[row, 12 + axis] + s_v * table[row, 15 + axis]
