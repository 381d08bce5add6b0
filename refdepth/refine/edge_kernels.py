"""Compiled loops over the pixels of a depth map: which lie between two surfaces, and on which of
them they belong. NaN is unknown."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

KERNEL = {"parallel": True, "cache": True, "nogil": True, "error_model": "numpy"}
Map = NDArray[np.float32]


@njit(**KERNEL)
def gaps(log_depth: Map, reach: int, out: Map) -> None:
    """How far each pixel's value (H, W) is from both of two opposite neighbours, `reach` pixels
    away, that it lies between: the nearer of the two, in the direction where that is most. 0 for
    pixels that lie between none."""
    height, width = log_depth.shape
    for y in prange(height):
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


@njit(**KERNEL)
def move_to_a_side(
    log_depth: Map,
    smeared: NDArray[np.bool_],
    solid: Map,
    image: Map,
    taps: NDArray[np.int64],
    likeness: float,
    nearness: float,
    out: Map,
) -> None:
    """Fills `out` (H, W): where `smeared` the weighted median of `log_depth` at the offsets `taps`
    x `taps`, elsewhere `log_depth`. A pixel weighs `solid` exp(-difference of colour / likeness -
    nearness distance^2); `image` is (H, W, C)."""
    height, width = log_depth.shape
    for y in prange(height):
        value, weight = np.empty(len(taps) ** 2, np.float32), np.empty(len(taps) ** 2)
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
                    difference = 0.0
                    for channel in range(image.shape[2]):
                        difference += abs(image[v, u, channel] - image[y, x, channel])
                    alike = np.exp(-difference / likeness - nearness * (dy * dy + dx * dx))
                    own = solid[v, u] * alike
                    place = count
                    while place > 0 and value[place - 1] > log_depth[v, u]:
                        value[place], weight[place] = value[place - 1], weight[place - 1]
                        place -= 1
                    value[place], weight[place] = log_depth[v, u], own
                    count += 1
                    total += own
            half, place = weight[0], 0
            while half < 0.5 * total and place < count - 1:
                place += 1
                half += weight[place]
            out[y, x] = value[place]
