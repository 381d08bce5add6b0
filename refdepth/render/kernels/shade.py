"""The fused path: texture colour of each visible pixel.

Texture coordinates are interpolated as u = w (U . p) with w = 1 / (N . p) and the planes
U = sum u_i A_i, N = sum A_i of `geometry`. `shade_backward` has the gradients.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel
from refdepth.render.kernels.geometry import Floats, Ids, Offsets
from refdepth.render.kernels.placing import (
    CONTRACTED,
    TABLE_ROWS,
    place,
    split,
)
from refdepth.render.kernels.visibility import draw_band, name_triangles

Lanes = tuple[int, ...]
"""A tuple as long as there are channels, which makes their number a constant of the compiled code.
"""


@parallel_kernel
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
    places: Floats,
) -> None:
    """Fills `ids` and `depth` (B, H, W) as `visibility.draw` does, `color` (B, H, W, C) with the
    bilinear texture colour, and `places` (2, B, H, W) with u and v in texels, whole numbers at
    their centres. Beyond the outer texel centres the border's colour holds.
    `texture` (Ht, Wt, C) has at least two texels a side."""
    views, height, _ = ids.shape
    bands = ((height - 1) >> shift) + 1
    for item in prange(views * bands):
        draw_and_shade_band(
            np.int64(item),
            q,
            triangles,
            uv,
            texture,
            lanes,
            boxes,
            bounds,
            listed,
            shift,
            ids,
            depth,
            color,
            places,
        )


@kernel
def draw_and_shade_band(
    item: int,
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
    places: Floats,
) -> None:
    """One band of one view of `draw_and_shade`. A kernel of its own: what is compiled for threads
    takes long."""
    _, height, width = ids.shape
    bands = ((height - 1) >> shift) + 1
    view, first = item // bands, (item % bands) << shift
    last_v, last_u = texture.shape[0] - 1, texture.shape[1] - 1
    texels = texture.reshape(-1)
    rows = slice(first, min(first + (1 << shift), height))
    own = listed[bounds[item] : bounds[item + 1]]
    table = np.empty((TABLE_ROWS, len(own) + 1))
    marks = np.empty((rows.stop - first, width), np.int32)
    draw_band(q, view, triangles, uv, boxes[view], own, first, marks, depth[view, rows], table)
    w = np.empty(width)
    texel_u, texel_v = np.empty(width, np.int32), np.empty(width, np.int32)
    part_u, part_v = np.empty(width, texture.dtype), np.empty(width, texture.dtype)
    for row in range(len(marks)):
        y = first + row
        u, v = places[0, view, y], places[1, view, y]
        place(marks[row], table, y, w, u, v)
        split(u, last_u, texel_u, part_u)
        split(v, last_v, texel_v, part_v)
        blend(
            marks[row],
            texel_u,
            texel_v,
            part_u,
            part_v,
            texels,
            last_u + 1,
            lanes,
            color[view, y].reshape(-1),
        )
    name_triangles(marks, own, ids[view, rows], depth[view, rows])


@kernel(fastmath=CONTRACTED)
def blend(
    marks: Ids,
    texel_u: Ids,
    texel_v: Ids,
    part_u: Floats,
    part_v: Floats,
    texels: Floats,
    pitch: int,
    lanes: Lanes,
    out: Floats,
) -> None:
    """Bilinear colours of a row of pixels (W * C), 0 where nothing is seen."""
    channels = np.uint64(len(lanes))
    below = np.uint64(pitch) * channels
    scalar = out.dtype.type
    for x in range(len(marks)):
        at = np.uint64(texel_v[x]) * below + np.uint64(texel_u[x]) * channels
        fu, fv = part_u[x], part_v[x]
        s11 = fu * fv
        s01, s10 = fu - s11, fv - s11
        s00 = scalar(1) - fu - s10
        seen = marks[x] > 0
        for lane in range(len(lanes)):
            i = at + np.uint64(lane)
            value = (
                s00 * texels[i]
                + s01 * texels[i + channels]
                + s10 * texels[i + below]
                + s11 * texels[i + below + channels]
            )
            out[np.uint64(x) * channels + np.uint64(lane)] = value if seen else scalar(0)
