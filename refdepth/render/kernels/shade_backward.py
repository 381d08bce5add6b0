"""The fused path's gradient to the vertices.

Differentiating M a = p of `geometry` gives, with the planes N, U and V of `shade`, for vertex i
with barycentric b_i = w (A_i . p),

    du / dq_i = b_i (u N - U),        dw / dq_i = b_i w N.

So with the gradients g_u, g_v, g_w of a pixel, s = g_u u + g_v v + g_w w and the sums over the
triangle's pixels S = sum s w p, S_u = sum g_u w p, S_v = sum g_v w p, vertex i receives

    (A_i . S) N - (A_i . S_u) U - (A_i . S_v) V.

The forward pass leaves w, u and v of each pixel: to read them is cheaper than to find them again.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel
from refdepth.render.kernels.geometry import (
    Floats,
    Ids,
    Offsets,
    Plane,
    planes,
)
from refdepth.render.kernels.placing import CONTRACTED, split
from refdepth.render.kernels.shade import Lanes

Sums = NDArray[np.float64]


@parallel_kernel
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


@parallel_kernel
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
    depth: Floats,
    places: Floats,
    grad_color: Floats,
    grad_depth: Floats,
    ranges: Offsets,
    offsets: Offsets,
    partial: Floats,
) -> None:
    """Sums the gradient to the vertices of each work item's range into its own stretch of
    `partial` (N, 3), which starts at `offsets[item]`. `ids`, `depth` and `places` are as
    `draw_and_shade` left them. `grad_depth` may be empty: no gradient."""
    views, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    items = len(ranges)
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    texels = texture.reshape(-1)
    with_depth = grad_depth.size > 0
    for item in prange(items):
        base = offsets[item] - ranges[item, 0]
        partial[offsets[item] : offsets[item + 1]] = 0
        # By id, so that 0, no triangle, is column 0.
        column = np.zeros(len(triangles) + 1, np.int32)
        marks = np.empty(width, np.int32)
        texel_u, texel_v = np.empty(width, np.int32), np.empty(width, np.int32)
        part_u, part_v = np.empty(width, texture.dtype), np.empty(width, texture.dtype)
        grad_u, grad_v = np.empty(width, texture.dtype), np.empty(width, texture.dtype)
        pull, pull_u, pull_v = np.empty(width), np.empty(width), np.empty(width)
        for band in range(views * bands * item // items, views * bands * (item + 1) // items):
            view, first = band // bands, (band % bands) << shift
            own = listed[bounds[band] : bounds[band + 1]]
            for entry in range(len(own)):
                column[own[entry] + 1] = entry + 1
            sums = np.zeros((len(own) + 1, 9))
            for y in range(first, min(first + (1 << shift), height)):
                seen = ids[view, y]
                for x in range(width):
                    marks[x] = column[np.uint64(seen[x])]
                w, u, v = depth[view, y], places[0, view, y], places[1, view, y]
                split(u, last_u, texel_u, part_u)
                split(v, last_v, texel_v, part_v)
                slopes(
                    texel_u,
                    texel_v,
                    part_u,
                    part_v,
                    texels,
                    last_u + 1,
                    lanes,
                    grad_color[view, y].reshape(-1),
                    grad_u,
                    grad_v,
                )
                pulls(w, u, v, last_u, last_v, grad_u, grad_v, pull, pull_u, pull_v)
                if with_depth:
                    for x in range(width):
                        pull[x] += grad_depth[view, y, x] * np.float64(w[x]) * w[x]
                accumulate(marks, pull, pull_u, pull_v, y, sums)
            spread(sums, q, view, triangles, own, uv, base, partial)


@kernel(fastmath=CONTRACTED)
def slopes(
    texel_u: Ids,
    texel_v: Ids,
    part_u: Floats,
    part_v: Floats,
    texels: Floats,
    pitch: int,
    lanes: Lanes,
    grad_color: Floats,
    grad_u: Floats,
    grad_v: Floats,
) -> None:
    """Gradients of a row of pixels to their places in the texture, from those to their colours
    (W * C)."""
    channels = np.uint64(len(lanes))
    below = np.uint64(pitch) * channels
    scalar = texels.dtype.type
    for x in range(len(texel_u)):
        at = np.uint64(texel_v[x]) * below + np.uint64(texel_u[x]) * channels
        fu, fv = part_u[x], part_v[x]
        along_u = along_v = scalar(0)
        for lane in range(len(lanes)):
            g = grad_color[np.uint64(x) * channels + np.uint64(lane)]
            i = at + np.uint64(lane)
            corner, under = texels[i], texels[i + below]
            right = texels[i + channels] - corner
            twist = texels[i + below + channels] - under - right
            along_u += g * (right + fv * twist)
            along_v += g * (under - corner + fu * twist)
        grad_u[x], grad_v[x] = along_u, along_v


@kernel(fastmath=CONTRACTED)
def pulls(
    w: Floats,
    u: Floats,
    v: Floats,
    last_u: int,
    last_v: int,
    grad_u: Floats,
    grad_v: Floats,
    pull: Floats,
    pull_u: Floats,
    pull_v: Floats,
) -> None:
    """s w, g_u w and g_v w of a row of pixels."""
    for x in range(len(w)):
        # Beyond the border's centres the colour does not change.
        a = w[x] * grad_u[x] if (u[x] >= 0) & (u[x] < last_u) else 0.0
        b = w[x] * grad_v[x] if (v[x] >= 0) & (v[x] < last_v) else 0.0
        pull_u[x], pull_v[x] = a, b
        pull[x] = a * u[x] + b * v[x]


@kernel(fastmath=CONTRACTED)
def accumulate(
    marks: Ids,
    pull: Floats,
    pull_u: Floats,
    pull_v: Floats,
    y: int,
    sums: Sums,
) -> None:
    """Adds a row of pixels to their triangles' sums S, S_u, S_v.

    Neighbours mostly see one triangle: they are summed before they are added.
    """
    py = y + 0.5
    last = np.uint64(marks[0])
    s = s_x = u = u_x = v = v_x = 0.0
    for x in range(len(marks)):
        k = np.uint64(marks[x])
        if k != last:
            add_run(sums, last, py, s, s_x, u, u_x, v, v_x)
            s = s_x = u = u_x = v = v_x = 0.0
            last = k
        px = x + 0.5
        s += pull[x]
        s_x += pull[x] * px
        u += pull_u[x]
        u_x += pull_u[x] * px
        v += pull_v[x]
        v_x += pull_v[x] * px
    add_run(sums, last, py, s, s_x, u, u_x, v, v_x)


@kernel(fastmath=CONTRACTED)
def add_run(
    sums: Sums,
    k: int,
    py: float,
    s: float,
    s_x: float,
    u: float,
    u_x: float,
    v: float,
    v_x: float,
) -> None:
    """Adds the sums of a run of pixels in a row to those of their triangle."""
    sums[k, 0] += s_x
    sums[k, 1] += s * py
    sums[k, 2] += s
    sums[k, 3] += u_x
    sums[k, 4] += u * py
    sums[k, 5] += u
    sums[k, 6] += v_x
    sums[k, 7] += v * py
    sums[k, 8] += v


@kernel(fastmath=CONTRACTED)
def spread(
    sums: Sums,
    q: Floats,
    view: int,
    triangles: Ids,
    listed: Ids,
    uv: Floats,
    base: int,
    partial: Floats,
) -> None:
    """Adds the gradients of the triangles `listed`, from their `sums` (n + 1, 9), to their
    vertices, which start at `base` in `partial`."""
    for entry in range(len(listed)):
        row, t = np.uint64(entry + 1), np.uint64(listed[entry])
        touched = False
        for k in range(9):
            touched |= sums[row, k] != 0
        if not touched:
            continue
        i0 = np.uint64(triangles[t, 0])
        i1 = np.uint64(triangles[t, 1])
        i2 = np.uint64(triangles[t, 2])
        _, ax, ay, az, bx, by, bz, cx, cy, cz = planes(q, view, i0, i1, i2)
        u0, u1, u2 = uv[i0, 0] - 0.5, uv[i1, 0] - 0.5, uv[i2, 0] - 0.5
        v0, v1, v2 = uv[i0, 1] - 0.5, uv[i1, 1] - 0.5, uv[i2, 1] - 0.5
        N = ax + bx + cx, ay + by + cy, az + bz + cz
        U = u0 * ax + u1 * bx + u2 * cx, u0 * ay + u1 * by + u2 * cy, u0 * az + u1 * bz + u2 * cz
        V = v0 * ax + v1 * bx + v2 * cx, v0 * ay + v1 * by + v2 * cy, v0 * az + v1 * bz + v2 * cz
        push(sums, row, (ax, ay, az), N, U, V, partial, base + np.int64(i0))
        push(sums, row, (bx, by, bz), N, U, V, partial, base + np.int64(i1))
        push(sums, row, (cx, cy, cz), N, U, V, partial, base + np.int64(i2))


@kernel(fastmath=CONTRACTED)
def push(
    sums: Sums,
    row: int,
    A: Plane,
    N: Plane,
    U: Plane,
    V: Plane,
    partial: Floats,
    vertex: int,
) -> None:
    """Adds one vertex' gradient."""
    s = A[0] * sums[row, 0] + A[1] * sums[row, 1] + A[2] * sums[row, 2]
    s_u = A[0] * sums[row, 3] + A[1] * sums[row, 4] + A[2] * sums[row, 5]
    s_v = A[0] * sums[row, 6] + A[1] * sums[row, 7] + A[2] * sums[row, 8]
    at = np.uint64(vertex)
    partial[at, 0] += s * N[0] - s_u * U[0] - s_v * V[0]
    partial[at, 1] += s * N[1] - s_u * U[1] - s_v * V[1]
    partial[at, 2] += s * N[2] - s_u * U[2] - s_v * V[2]
