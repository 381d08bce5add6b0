"""The fused path: texture colour of each visible pixel, and its gradient to the vertices.

Texture coordinates are interpolated as U = (M_u . p) / (M_1 . p) with the planes M_u = sum u_i A_i
and M_1 = sum A_i of `geometry`. Differentiating M a = p gives, for vertex i with barycentric b_i,

    dU / dq_i = b_i (U M_1 - M_u),        dw / dq_i = b_i w M_1,

so a triangle needs only nine sums over its pixels: of b_i (g_U U + g_V V + g_w w), b_i g_U and
b_i g_V.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from refdepth.render.kernels.geometry import KERNEL, PARALLEL_KERNEL, planes
from refdepth.render.kernels.visibility import draw_band


@njit(**KERNEL)
def texture_planes(q, triangles, uv, view, t):
    """The rows of inv(M) for vertices 0 and 1 and the planes M_1, M_u, M_v of a visible triangle;
    u and v are moved so that whole numbers are texel centres."""
    i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
    u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
    v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
    vertex_0, vertex_1 = (ax, ay, az), (bx, by, bz)
    one = (ax + bx + cx, ay + by + cy, az + bz + cz)
    u = (u0 * ax + u1 * bx + u2 * cx, u0 * ay + u1 * by + u2 * cy, u0 * az + u1 * bz + u2 * cz)
    v = (v0 * ax + v1 * bx + v2 * cx, v0 * ay + v1 * by + v2 * cy, v0 * az + v1 * bz + v2 * cz)
    return vertex_0, vertex_1, one, u, v


@njit(**KERNEL)
def shade_band(q, triangles, uv, texture, boxes, listed, view, first_row, last_row, ids, color):
    """Bilinear texture colour of each pixel of one band; 0 where nothing is visible. Coordinates
    beyond the outer texel centres take the border's colour."""
    width = ids.shape[2]
    last_v, last_u, channels = texture.shape[0] - 1, texture.shape[1] - 1, texture.shape[2]
    scalar = color.dtype.type
    for y in range(first_row, last_row):
        for x in range(width):
            if ids[view, y, x] == 0:
                for channel in range(channels):
                    color[view, y, x, channel] = 0
    for entry in range(len(listed)):
        t = listed[entry]
        left, right = int(boxes[view, t, 0]), int(boxes[view, t, 1])
        for y in range(
            max(int(boxes[view, t, 2]), first_row), min(boxes[view, t, 3] + 1, last_row)
        ):
            start = left
            while start <= right and ids[view, y, start] != t + 1:
                start += 1
            if start > right:
                continue
            _, _, one, u_plane, v_plane = texture_planes(q, triangles, uv, view, t)
            py = y + 0.5
            one_row = one[1] * py + one[2]
            u_row = u_plane[1] * py + u_plane[2]
            v_row = v_plane[1] * py + v_plane[2]
            for x in range(start, right + 1):
                if ids[view, y, x] != t + 1:
                    continue
                px = x + 0.5
                w = 1.0 / (one[0] * px + one_row)
                u = min(max((u_plane[0] * px + u_row) * w, 0.0), float(last_u))
                v = min(max((v_plane[0] * px + v_row) * w, 0.0), float(last_v))
                u0, v0 = int(u), int(v)
                u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
                fu, fv = scalar(u - u0), scalar(v - v0)
                s00, s01 = (1 - fu) * (1 - fv), fu * (1 - fv)
                s10, s11 = (1 - fu) * fv, fu * fv
                for channel in range(channels):
                    color[view, y, x, channel] = (
                        s00 * texture[v0, u0, channel]
                        + s01 * texture[v0, u1, channel]
                        + s10 * texture[v1, u0, channel]
                        + s11 * texture[v1, u1, channel]
                    )


@njit(**PARALLEL_KERNEL)
def draw_and_shade(q, triangles, uv, texture, boxes, bounds, listed, rows, ids, depth, color):
    """Fills `ids` (B, H, W), `depth` (B, H, W) and `color` (B, H, W, C), band by band."""
    views, height = ids.shape[0], ids.shape[1]
    bands = (height + rows - 1) // rows
    for item in prange(views * bands):
        view, first_row = item // bands, item % bands * rows
        entries = listed[bounds[item] : bounds[item + 1]]
        last_row = min(first_row + rows, height)
        draw_band(q, triangles, boxes, entries, view, first_row, last_row, ids, depth)
        shade_band(q, triangles, uv, texture, boxes, entries, view, first_row, last_row, ids, color)


@njit(**PARALLEL_KERNEL)
def vertex_ranges(triangles, parts, views):
    """First and last vertex that each part of the triangles uses, repeated per view
    (views * parts, 2); parts are runs of neighbouring triangles."""
    ranges = np.empty((views * parts, 2), np.int64)
    total = triangles.shape[0]
    for part in prange(parts):
        first, last = np.int64(2**62), np.int64(-1)
        for t in range(total * part // parts, total * (part + 1) // parts):
            for corner in range(3):
                first = min(first, np.int64(triangles[t, corner]))
                last = max(last, np.int64(triangles[t, corner]))
        for view in range(views):
            ranges[view * parts + part, 0] = min(first, last + 1)
            ranges[view * parts + part, 1] = last
    return ranges


@njit(**PARALLEL_KERNEL)
def shade_backward(
    q, triangles, uv, texture, boxes, ids, depth, grad_color, grad_depth, ranges, offsets, partial
):
    """Sums, for each (view, part of the triangles), the gradient to the vertices of the part's
    range into its own stretch of `partial` (N, 3). `grad_depth` may be empty: no gradient."""
    views, total = q.shape[0], triangles.shape[0]
    parts = len(ranges) // views
    channels = texture.shape[2]
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    with_depth = grad_depth.size > 0
    scalar = texture.dtype.type
    for item in prange(views * parts):
        view, part = item // parts, item % parts
        base = offsets[item] - ranges[item, 0]
        for i in range(offsets[item], offsets[item + 1]):
            partial[i, 0], partial[i, 1], partial[i, 2] = 0.0, 0.0, 0.0
        for t in range(total * part // parts, total * (part + 1) // parts):
            left, right = int(boxes[view, t, 0]), int(boxes[view, t, 1])
            visible = False
            for y in range(int(boxes[view, t, 2]), int(boxes[view, t, 3]) + 1):
                py = y + 0.5
                for x in range(left, right + 1):
                    if ids[view, y, x] != t + 1:
                        continue
                    if not visible:
                        visible = True
                        plane_0, plane_1, one, u_plane, v_plane = texture_planes(
                            q, triangles, uv, view, t
                        )
                        sum_0, sum_1, sum_2 = 0.0, 0.0, 0.0
                        u_0, u_1, u_2 = 0.0, 0.0, 0.0
                        v_0, v_1, v_2 = 0.0, 0.0, 0.0
                    px = x + 0.5
                    w = 1.0 / (one[0] * px + one[1] * py + one[2])
                    u = (u_plane[0] * px + u_plane[1] * py + u_plane[2]) * w
                    v = (v_plane[0] * px + v_plane[1] * py + v_plane[2]) * w
                    inside_u, inside_v = 0 <= u < last_u, 0 <= v < last_v
                    clamped_u = min(max(u, 0.0), float(last_u))
                    clamped_v = min(max(v, 0.0), float(last_v))
                    u0, v0 = int(clamped_u), int(clamped_v)
                    u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
                    fu, fv = scalar(clamped_u - u0), scalar(clamped_v - v0)
                    s00 = s01 = s10 = s11 = scalar(0)
                    for channel in range(channels):
                        g = grad_color[view, y, x, channel]
                        s00 += g * texture[v0, u0, channel]
                        s01 += g * texture[v0, u1, channel]
                        s10 += g * texture[v1, u0, channel]
                        s11 += g * texture[v1, u1, channel]
                    grad_u = float((s01 - s00) * (1 - fv) + (s11 - s10) * fv) if inside_u else 0.0
                    grad_v = float((s10 - s00) * (1 - fu) + (s11 - s01) * fu) if inside_v else 0.0
                    both = grad_u * u + grad_v * v
                    if with_depth:
                        both += grad_depth[view, y, x] * w
                    b0 = (plane_0[0] * px + plane_0[1] * py + plane_0[2]) * w
                    b1 = (plane_1[0] * px + plane_1[1] * py + plane_1[2]) * w
                    b2 = 1.0 - b0 - b1
                    sum_0 += b0 * both
                    sum_1 += b1 * both
                    sum_2 += b2 * both
                    u_0 += b0 * grad_u
                    u_1 += b1 * grad_u
                    u_2 += b2 * grad_u
                    v_0 += b0 * grad_v
                    v_1 += b1 * grad_v
                    v_2 += b2 * grad_v
            if visible:
                i0, i1, i2 = base + triangles[t, 0], base + triangles[t, 1], base + triangles[t, 2]
                for axis in range(3):
                    partial[i0, axis] += (
                        sum_0 * one[axis] - u_0 * u_plane[axis] - v_0 * v_plane[axis]
                    )
                    partial[i1, axis] += (
                        sum_1 * one[axis] - u_1 * u_plane[axis] - v_1 * v_plane[axis]
                    )
                    partial[i2, axis] += (
                        sum_2 * one[axis] - u_2 * u_plane[axis] - v_2 * v_plane[axis]
                    )


@njit(**PARALLEL_KERNEL)
def gather_partial(ranges, offsets, partial, parts, out):
    """Adds the parts' sums into `out` (G, N, C) in the order of the parts; row g of `out` is made
    of the items g * parts ... (g + 1) * parts - 1."""
    for group in prange(out.shape[0]):
        for i in range(out.shape[1]):
            for column in range(out.shape[2]):
                out[group, i, column] = 0
        for item in range(group * parts, (group + 1) * parts):
            first = ranges[item, 0]
            for i in range(offsets[item + 1] - offsets[item]):
                for column in range(out.shape[2]):
                    out[group, first + i, column] += partial[offsets[item] + i, column]
