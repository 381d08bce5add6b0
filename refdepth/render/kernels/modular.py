"""The separate steps: barycentrics from visibility, attributes from barycentrics, texture lookups.

Each backward pass splits the rows of a view into a fixed number of parts with sums of their own,
added in order.
"""

from __future__ import annotations

import numpy as np

from refdepth.compiled import kernel
from refdepth.render.kernels.geometry import (
    Floats,
    Ids,
    Offsets,
    clamp,
    planes,
)


@kernel
def barycentrics(q: Floats, triangles: Ids, ids: Ids, out: Floats) -> None:
    """Fills `out` (B, H, W, 2) with the weights of vertices 0 and 1; 0 where nothing is visible."""
    views, height, width = ids.shape
    for item in range(views * height):
        view, y = item // height, item % height
        last = -1
        ax = ay = az = bx = by = bz = cx = cy = cz = 0.0
        for x in range(width):
            t = ids[view, y, x] - 1
            out[view, y, x, 0], out[view, y, x, 1] = 0, 0
            if t >= 0:
                if t != last:  # neighbours mostly see one triangle
                    last = t
                    i0, i1, i2 = triangles[t]
                    _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(
                        q, view, np.uint64(i0), np.uint64(i1), np.uint64(i2)
                    )
                px, py = x + 0.5, y + 0.5
                a = ax * px + ay * py + az
                b = bx * px + by * py + bz
                w = 1.0 / (a + b + cx * px + cy * py + cz)
                out[view, y, x, 0], out[view, y, x, 1] = a * w, b * w


@kernel
def pixel_vertex_ranges(triangles: Ids, ids: Ids, parts: int) -> Offsets:
    """First vertex and one past the last that the visible triangles of each part of the rows use
    (views * parts, 2)."""
    views, height, width = ids.shape
    ranges = np.zeros((views * parts, 2), np.int64)
    for item in range(views * parts):
        view, part = item // parts, item % parts
        low, high = np.int64(2**31), np.int64(0)
        for y in range(height * part // parts, height * (part + 1) // parts):
            for x in range(width):
                t = ids[view, y, x] - 1
                if t >= 0:
                    for corner in range(3):
                        vertex = np.int64(triangles[t, corner])
                        low, high = min(low, vertex), max(high, vertex + 1)
        ranges[item, 0], ranges[item, 1] = min(low, high), high
    return ranges


@kernel
def rasterize_backward(
    q: Floats,
    triangles: Ids,
    ids: Ids,
    grad_barycentrics: Floats,
    grad_depth: Floats,
    ranges: Offsets,
    offsets: Offsets,
    partial: Floats,
) -> None:
    """Gradient to the vertices from that of barycentrics (B, H, W, 2) and depth (B, H, W), summed
    per part into `partial` (N, 3).

    With b_0 = w (A_0 . p): db_0 / dq_i = b_i (b_0 N - A_0), as in `shade`.
    """
    views, height, width = ids.shape
    parts = len(ranges) // views
    for item in range(len(ranges)):
        view, part = item // parts, item % parts
        base = offsets[item] - ranges[item, 0]
        partial[offsets[item] : offsets[item + 1]] = 0
        for y in range(height * part // parts, height * (part + 1) // parts):
            for x in range(width):
                t = ids[view, y, x] - 1
                if t < 0:
                    continue
                i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
                px, py = x + 0.5, y + 0.5
                a = ax * px + ay * py + az
                b = bx * px + by * py + bz
                w = 1.0 / (a + b + cx * px + cy * py + cz)
                b0, b1 = a * w, b * w
                g0, g1 = grad_barycentrics[view, y, x, 0], grad_barycentrics[view, y, x, 1]
                both = g0 * b0 + g1 * b1 + grad_depth[view, y, x] * w
                gx = both * (ax + bx + cx) - g0 * ax - g1 * bx
                gy = both * (ay + by + cy) - g0 * ay - g1 * by
                gw = both * (az + bz + cz) - g0 * az - g1 * bz
                for corner, weight in enumerate((b0, b1, 1 - b0 - b1)):
                    i = base + triangles[t, corner]
                    partial[i, 0] += weight * gx
                    partial[i, 1] += weight * gy
                    partial[i, 2] += weight * gw


@kernel
def interpolate(weights: Floats, triangles: Ids, ids: Ids, attributes: Floats, out: Floats) -> None:
    """Fills `out` (B, H, W, C) with `attributes` (B or 1, V, C) at each pixel, 0 where nothing is
    visible."""
    views, height, width = ids.shape
    for item in range(views * height):
        view, y = item // height, item % height
        source = view if attributes.shape[0] > 1 else 0
        for x in range(width):
            t = ids[view, y, x] - 1
            if t < 0:
                out[view, y, x] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            b0, b1 = np.float64(weights[view, y, x, 0]), np.float64(weights[view, y, x, 1])
            for c in range(attributes.shape[2]):
                out[view, y, x, c] = (
                    b0 * attributes[source, i0, c]
                    + b1 * attributes[source, i1, c]
                    + (1 - b0 - b1) * attributes[source, i2, c]
                )


@kernel
def interpolate_backward_weights(
    triangles: Ids, ids: Ids, attributes: Floats, grad: Floats, out: Floats
) -> None:
    """Fills `out` (B, H, W, 2) with the gradient to the barycentrics from `grad` (B, H, W, C)."""
    views, height, width = ids.shape
    for item in range(views * height):
        view, y = item // height, item % height
        source = view if attributes.shape[0] > 1 else 0
        for x in range(width):
            t = ids[view, y, x] - 1
            g0, g1 = 0.0, 0.0
            if t >= 0:
                i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                for c in range(attributes.shape[2]):
                    g = np.float64(grad[view, y, x, c])
                    g0 += g * (attributes[source, i0, c] - attributes[source, i2, c])
                    g1 += g * (attributes[source, i1, c] - attributes[source, i2, c])
            out[view, y, x, 0], out[view, y, x, 1] = g0, g1


@kernel
def interpolate_backward_attributes(
    weights: Floats,
    triangles: Ids,
    ids: Ids,
    grad: Floats,
    ranges: Offsets,
    offsets: Offsets,
    partial: Floats,
) -> None:
    """Gradient to the attributes of each view, summed per part of the rows into `partial`
    (N, C)."""
    views, height, width = ids.shape
    parts = len(ranges) // views
    for item in range(len(ranges)):
        view, part = item // parts, item % parts
        base = offsets[item] - ranges[item, 0]
        partial[offsets[item] : offsets[item + 1]] = 0
        for y in range(height * part // parts, height * (part + 1) // parts):
            for x in range(width):
                t = ids[view, y, x] - 1
                if t < 0:
                    continue
                b0, b1 = np.float64(weights[view, y, x, 0]), np.float64(weights[view, y, x, 1])
                for corner, weight in enumerate((b0, b1, 1 - b0 - b1)):
                    i = base + triangles[t, corner]
                    for c in range(grad.shape[3]):
                        partial[i, c] += weight * grad[view, y, x, c]


@kernel
def sample(texture: Floats, uv: Floats, out: Floats) -> None:
    """Fills `out` (N, C) with bilinear values of `texture` (Ht, Wt, C) at `uv` (N, 2) in texels,
    the border's value beyond the outer centres; 0 where `uv` is not finite."""
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    for i in range(uv.shape[0]):
        u, v = np.float64(uv[i, 0]) - 0.5, np.float64(uv[i, 1]) - 0.5
        if not np.isfinite(u + v):
            out[i] = 0
            continue
        u, v = clamp(u, last_u), clamp(v, last_v)
        u0, v0 = int(u), int(v)
        u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
        fu, fv = u - u0, v - v0
        for c in range(texture.shape[2]):
            above = (1 - fu) * texture[v0, u0, c] + fu * texture[v0, u1, c]
            below = (1 - fu) * texture[v1, u0, c] + fu * texture[v1, u1, c]
            out[i, c] = (1 - fv) * above + fv * below


@kernel
def sample_backward_uv(texture: Floats, uv: Floats, grad: Floats, out: Floats) -> None:
    """Fills `out` (N, 2) with the gradient to `uv` from `grad` (N, C)."""
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    for i in range(uv.shape[0]):
        u, v = np.float64(uv[i, 0]) - 0.5, np.float64(uv[i, 1]) - 0.5
        out[i, 0], out[i, 1] = 0, 0
        if not np.isfinite(u + v):
            continue
        inside_u, inside_v = 0 <= u < last_u, 0 <= v < last_v
        u, v = clamp(u, last_u), clamp(v, last_v)
        u0, v0 = int(u), int(v)
        u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
        fu, fv = u - u0, v - v0
        grad_u, grad_v = 0.0, 0.0
        for c in range(texture.shape[2]):
            t00, t01 = texture[v0, u0, c], texture[v0, u1, c]
            t10, t11 = texture[v1, u0, c], texture[v1, u1, c]
            grad_u += grad[i, c] * ((1 - fv) * (t01 - t00) + fv * (t11 - t10))
            grad_v += grad[i, c] * ((1 - fu) * (t10 - t00) + fu * (t11 - t01))
        if inside_u:
            out[i, 0] = grad_u
        if inside_v:
            out[i, 1] = grad_v


@kernel
def sample_backward_texture(uv: Floats, grad: Floats, out: Floats) -> None:
    """Fills `out` (Ht, Wt, C) float64 with the gradient to the texture from `grad` (N, C), one
    work item a channel, so that the order of the sums is that of the pixels."""
    last_v, last_u = out.shape[0] - 1, out.shape[1] - 1
    for c in range(out.shape[2]):
        out[:, :, c] = 0
        for i in range(uv.shape[0]):
            g = grad[i, c]
            u, v = np.float64(uv[i, 0]) - 0.5, np.float64(uv[i, 1]) - 0.5
            if g == 0 or not np.isfinite(u + v):
                continue
            u, v = clamp(u, last_u), clamp(v, last_v)
            u0, v0 = int(u), int(v)
            u1, v1 = min(u0 + 1, last_u), min(v0 + 1, last_v)
            fu, fv = u - u0, v - v0
            out[v0, u0, c] += g * (1 - fu) * (1 - fv)
            out[v0, u1, c] += g * fu * (1 - fv)
            out[v1, u0, c] += g * (1 - fu) * fv
            out[v1, u1, c] += g * fu * fv
