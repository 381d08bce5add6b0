"""Sharp depth edges.

Monocular networks smear depth across edges: between an object and what is behind it lie pixels at
depths where there is nothing. They end up as points in the air, and no correction that is smooth
on a surface repairs them. Here each moves to the surface on one side, as a weighted median of its
surroundings, in which pixels of its colour, close to it, and not themselves between two surfaces
count most (guided weighted median filtering, after Ma et al., "Constant time weighted median
filtering for stereo matching and beyond", ICCV 2013).
All lengths are shares of the picture's longer side: the same picture at another size is treated
alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, is_tensor, namespace, put_like
from refdepth.compiled import kernel
from refdepth.geometry.filters import maximum_filter
from refdepth.geometry.grid import strips
from refdepth.types.scene import PosedImage, in_unit_range

Map = NDArray[np.float32]

STEP = 1 / 256
"""Distance of the neighbours that a smeared pixel lies between, as a share of the longer side."""
LEAST_GAP = 0.03
"""Difference of log depth to both of them from which a pixel counts as smeared, and those next to
it: a smear's ends differ too little to be seen alone."""
NEXT_TO_A_GAP = 0.5
"""How much a pixel is doubted for a neighbour's gap, against its own."""
SOLID = 0.04
"""The gap at which a pixel has lost 1 - 1/e of its weight for others."""
LIKENESS = 0.15
"""Difference of colour, summed over channels, at which a pixel has."""
ROWS = 512
"""Rows that are sharpened at a time; those around them that count for them come twice."""
SPREAD = 0.6
"""Standard deviation of the weight's fall with distance, in parts of the reach."""


def sharpen_edges(depth: Array, image: Array, reach: float, *, in_place: bool = False) -> Array:
    """`depth` (H, W; 0 unknown) with its smeared edges made steps, guided by the photo `image`
    (H, W, 3), uint8 or float32 in [0, 1]. Sides are looked for within `reach`, a share of the
    longer side. With `in_place` an array becomes the result itself."""
    longer = max(depth.shape)
    # Five by five pixels, whatever the size.
    taps = np.unique(np.rint(reach * longer * np.linspace(-1, 1, 5))).astype(np.int64)
    if len(taps) == 1:
        return depth
    step = max(1, round(STEP * longer))
    nearness = 0.5 / (SPREAD * reach * longer) ** 2
    if is_tensor(depth):
        return _sharpened(depth, in_unit_range(image), step, taps, nearness)
    seen_px = 2 * step + int(taps[-1])  # how far away what counts for a pixel may lie
    sharp = depth if in_place else np.empty_like(depth)
    above = depth[:0]  # the rows before, as they were
    for rows in strips(len(depth), ROWS):
        around = slice(rows.start - len(above), rows.stop + seen_px)
        inner = slice(rows.start - around.start, rows.stop - around.start)
        part = np.array(image[around])  # read-only pictures are another type to the kernels
        before = np.concatenate([above, depth[rows.start : around.stop]])
        above = before[: inner.stop][-seen_px:].copy()
        sharp[rows] = _sharpened(before, part, step, taps, nearness)[inner]
    return sharp


def sharpen_view(
    depth: Array, photo: PosedImage | None, reach: float, *, in_place: bool = False
) -> Array:
    """`sharpen_edges` guided by a view's photo; without one `depth` as it is. What the photo's mask
    leaves out is no side of an edge, and stays."""
    if photo is None:
        return depth
    image = put_like(photo.image, depth)
    if photo.mask is None:
        return sharpen_edges(depth, image, reach, in_place=in_place)
    xp, mask = namespace(depth), put_like(photo.mask, depth)
    seen = xp.where(mask, depth, 0.0)
    return xp.where(mask, sharpen_edges(seen, image, reach, in_place=True), depth)


def _sharpened(
    depth: Array, image: Array, step: int, taps: NDArray[np.int64], nearness: float
) -> Array:
    xp = namespace(depth)
    known = depth > 0
    log_depth = xp.log(xp.where(known, depth, xp.nan))
    gap = _gaps(log_depth, step)
    around = maximum_filter(gap, 2 * step + 1)
    smeared = around > LEAST_GAP
    around *= NEXT_TO_A_GAP
    doubt = xp.maximum(gap, around) / SOLID
    del gap, around  # of a large photo each is large
    solid = xp.exp(-(doubt**2))
    del doubt
    sharp = _moved_to_a_side(log_depth, smeared, solid, image, taps, nearness)
    moved = known & (sharp != log_depth)
    return xp.where(moved, xp.exp(sharp), depth)


def _gaps(log_depth: Array, reach: int) -> Array:
    if is_tensor(log_depth):
        from refdepth.refine import torch_edges

        return torch_edges.gaps(log_depth, reach)
    gap = np.empty_like(log_depth)
    gaps(log_depth, reach, gap)
    return gap


def _moved_to_a_side(
    log_depth: Array,
    smeared: Array,
    solid: Array,
    image: Array,
    taps: NDArray[np.int64],
    nearness: float,
) -> Array:
    if is_tensor(log_depth):
        from refdepth.refine import torch_edges

        return torch_edges.move_to_a_side(
            log_depth, smeared, solid, image, taps, LIKENESS, nearness
        )
    sharp = np.empty_like(log_depth)
    white = 255.0 if image.dtype == np.uint8 else 1.0
    move_to_a_side(log_depth, smeared, solid, image, white, taps, LIKENESS, nearness, sharp)
    return sharp


@kernel
def gaps(log_depth: Map, reach: int, out: Map) -> None:
    """How far each pixel's value (H, W) is from both of two opposite neighbours, `reach` pixels
    away, that it lies between: the nearer of the two, in the direction where that is most. 0 for
    pixels that lie between none."""
    height, width = log_depth.shape
    for y in range(height):
        for x in range(width):
            here, most = log_depth[y, x], np.float32(0)
            for direction in range(4):
                dy = 0 if direction == 0 else reach
                dx = (reach, 0, reach, -reach)[direction]
                if y < dy or y + dy >= height or not abs(dx) <= x < width - abs(dx):
                    continue
                ahead, behind = log_depth[y + dy, x + dx] - here, here - log_depth[y - dy, x - dx]
                if ahead * behind > 0:  # False where one is unknown
                    most = max(most, min(abs(ahead), abs(behind)))
            out[y, x] = most


@kernel
def move_to_a_side(
    log_depth: Map,
    smeared: NDArray[np.bool_],
    solid: Map,
    image: NDArray[np.uint8] | Map,
    white: float,
    taps: NDArray[np.int64],
    likeness: float,
    nearness: float,
    out: Map,
) -> None:
    """Fills `out` (H, W): where `smeared` the weighted median of `log_depth` at the offsets `taps`
    x `taps`, elsewhere `log_depth`. A pixel weighs `solid` exp(-difference of colour / likeness -
    nearness distance^2); `image` is (H, W, C), 0 to `white`."""
    height, width = log_depth.shape
    n = len(taps) ** 2
    value, weight, below = np.empty(n), np.empty(n), np.empty(n)
    sharpness = 1 / (white * likeness)
    for y in range(height):
        for x in range(width):
            out[y, x] = log_depth[y, x]
            if not smeared[y, x] or np.isnan(log_depth[y, x]):
                continue
            count, total = 0, 0.0
            for dy in taps:
                for dx in taps:
                    v, u = y + dy, x + dx
                    if not (0 <= v < height and 0 <= u < width) or np.isnan(log_depth[v, u]):
                        continue
                    difference = np.float32(0)
                    for channel in range(image.shape[2]):
                        there = np.float32(image[v, u, channel])
                        difference += abs(there - np.float32(image[y, x, channel]))
                    distance = sharpness * difference + nearness * (dy * dy + dx * dx)
                    value[count] = log_depth[v, u]
                    weight[count] = solid[v, u] * np.exp(np.float32(-distance))
                    total += weight[count]
                    count += 1
            add_weights_up_to(value[:count], weight[:count], below)
            best = np.inf
            for i in range(count):
                if below[i] >= 0.5 * total and value[i] < best:
                    best = value[i]
            out[y, x] = best


@kernel
def add_weights_up_to(
    value: NDArray[np.float64], weight: NDArray[np.float64], below: NDArray[np.float64]
) -> None:
    """Fills the first N of `below` with the sum of the `weight` (N,) of all that have no larger
    `value` (N,). N^2 additions that become vector instructions take less than sorting a few."""
    n = np.uint64(len(value))
    for i in range(n):
        below[i] = 0
    for j in range(n):
        own, added = value[j], weight[j]
        for i in range(n):
            below[i] += added if own <= value[i] else 0.0
