"""Compiled matching: each hypothesis warps the source views and compares windows.

Work is split into tiles whose number does not depend on the thread count, and every window sums in
a fixed order, so results are the same bit for bit on any number of threads. A tile's windows and
pictures stay in a core's cache over all hypotheses. The passes over its rows are short loops, and
those between whose arrays few distances have to be checked become vector instructions.

The variance of a nearly plain window, 1e-5, is no difference that float32 can make of squares near
1: grey levels are compared less that in the window's middle.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel
from refdepth.matching.warp_kernels import Row, locate, look_up, project

BAND_ROWS = 24
TILE = 64
"""Pixels of a row of a tile: windows are stored by tiles, and padded to whole ones."""
MISSING_COST = 1.2
"""Cost of a source that does not see the point: worse than no correlation, better than opposite."""
LARGEST_COST = 1.5
MIN_VARIANCE = 1e-5
"""Grey-level variance (images in [0, 1]) below which a window is flat: about one level of 256."""
Lanes = tuple[int, ...]
"""A tuple as long as a window's side, which makes the side a constant of the compiled code."""


@kernel
def describe_windows(
    gray: NDArray[np.float32],
    usable: NDArray[np.bool_],
    sigma_gray: float,
    weights: NDArray[np.float32],
    mean: NDArray[np.float32],
    square: NDArray[np.float32],
) -> None:
    """Fills `weights` (H, ceil(W / TILE), side, side * TILE) with each pixel's window weights,
    which sum to 1: bilateral in the grey level (`sigma_gray` <= 0: equal), 0 outside the picture
    and, for pixels that are `usable` (H, W), where those around are not; and `mean` and `square`
    (H, W) with the weighted mean and mean square of the grey levels less the pixel's own.

    Pixel (y, x) weighs row i and column j of its window with
    weights[y, x // TILE, i, j * TILE + x % TILE].
    """
    height, width = gray.shape
    side = weights.shape[2]
    radius = side // 2
    for y in range(height):
        for x in range(width):
            own = weights[y, x // TILE]
            place = x % TILE
            total = 0.0
            for i in range(side):
                yy = y + i - radius
                for j in range(side):
                    xx = x + j - radius
                    weight = 0.0
                    inside = 0 <= yy < height and 0 <= xx < width
                    if inside and (usable[yy, xx] or not usable[y, x]):
                        weight = 1.0
                        if sigma_gray > 0:
                            weight = np.exp(-abs(gray[yy, xx] - gray[y, x]) / sigma_gray)
                    own[i, j * TILE + place] = weight
                    total += weight
            first, second = 0.0, 0.0
            for i in range(max(radius - y, 0), min(side, height + radius - y)):
                for j in range(max(radius - x, 0), min(side, width + radius - x)):
                    share = np.float32(own[i, j * TILE + place] / total)
                    value = np.float64(gray[y + i - radius, x + j - radius] - gray[y, x])
                    own[i, j * TILE + place] = share
                    first += share * value
                    second += share * value * value
            mean[y, x], square[y, x] = first, second


@parallel_kernel
def cost_volume(
    gray: NDArray[np.float32],
    weights: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    depth: NDArray[np.float32],
    factors: NDArray[np.float32],
    A: NDArray[np.float32],
    b: NDArray[np.float32],
    images: NDArray[np.float32],
    usable: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    pitch: int,
    best: int,
    lanes: Lanes,
    volume: NDArray[np.float32],
) -> None:
    """Fills `volume` (H, W, D) with 1 - ZNCC in [0, 1.5], the mean of the `best` of S sources.

    `gray`, `mean`, `variance` (H, W) describe the reference, `weights` its windows, as
    `describe_windows` left them; `lanes` is as long as their side. Hypothesis d puts every pixel at
    depth * factors[d], so windows follow the slant of `depth`. A (S, 3, 3), b (S, 3): source pixel
    of (x, y) at z is A (x, y, 1) z + b. `images` and `usable` (S, rows * `pitch`) hold the sources
    row by row, padded to the largest and to at least two pixels a side; `sizes` (S, 2) is each
    source's height and width.
    """
    tiles = weights.shape[1]
    bands = (gray.shape[0] + BAND_ROWS - 1) // BAND_ROWS
    for item in prange(bands * tiles):
        match_tile(
            np.int64(item) // tiles,
            np.int64(item) % tiles,
            gray,
            weights,
            mean,
            variance,
            depth,
            factors,
            A,
            b,
            images,
            usable,
            sizes,
            pitch,
            best,
            lanes,
            volume,
        )


@kernel
def match_tile(
    band: int,
    tile: int,
    gray: NDArray[np.float32],
    weights: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    depth: NDArray[np.float32],
    factors: NDArray[np.float32],
    A: NDArray[np.float32],
    b: NDArray[np.float32],
    images: NDArray[np.float32],
    usable: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    pitch: int,
    best: int,
    lanes: Lanes,
    volume: NDArray[np.float32],
) -> None:
    """One tile of `cost_volume`. A kernel of its own: what is compiled for threads takes long."""
    height, width = gray.shape
    n_sources = images.shape[0]
    radius = len(lanes) // 2
    y0, x0 = band * BAND_ROWS, tile * TILE
    rows, columns = min(BAND_ROWS, height - y0), min(TILE, width - x0)
    top, left = max(y0 - radius, 0), max(x0 - radius, 0)
    bottom, right = min(y0 + rows + radius, height), min(x0 + columns + radius, width)
    around = slice(left - x0 + radius, right - x0 + radius)
    # The tile with a margin of a radius: grey levels less the first, a source as warped, where it
    # is seen.
    own = np.zeros((rows + 2 * radius, TILE + 2 * radius), np.float32)
    warped, seen = np.zeros_like(own), np.zeros_like(own)
    for y in range(top, bottom):
        for x in range(left, right):
            own[y - y0 + radius, x - x0 + radius] = gray[y, x] - gray[y0, x0]
    v = np.empty(right - left, np.float32)
    corner, nearest = np.empty(right - left, np.int32), np.empty(right - left, np.int32)
    sums, cost = np.empty(3 * TILE, np.float32), np.empty(TILE, np.float32)
    kept = np.empty((rows, best, TILE), np.float32)
    for d in range(factors.shape[0]):
        kept[:] = np.float32(2)
        for s in range(n_sources):
            for y in range(top, bottom):
                row, row_seen = warped[y - y0 + radius, around], seen[y - y0 + radius, around]
                project(
                    A[s],
                    b[s],
                    y,
                    left,
                    depth[y, left:right],
                    factors[d],
                    sizes[s, 0],
                    sizes[s, 1],
                    row,
                    v,
                    row_seen,
                )
                locate(row, v, pitch, sizes[s, 0], sizes[s, 1], corner, nearest)
                look_up(images[s], usable[s], pitch, corner, nearest, row, v, row, row_seen)
            for r in range(rows):
                here = y0 + r, slice(x0, x0 + columns)
                windows = weights[y0 + r, tile]
                sums[:] = 0
                middle = warped[r + radius, radius:]
                for i in range(len(lanes)):
                    add_window_row(windows[i], warped[r + i], own[r + i], middle, lanes, sums)
                correlate(
                    sums,
                    own[r + radius, radius:],
                    mean[here],
                    variance[here],
                    seen[r + radius, radius:],
                    cost,
                )
                for k in range(best):
                    keep_smaller(cost, kept[r, k])
        for r in range(rows):
            for x in range(columns):
                total = np.float32(0)
                for k in range(best):
                    total += kept[r, k, x]
                volume[y0 + r, x0 + x, d] = total / np.float32(best)


@kernel
def add_window_row(
    weights: Row, warped: Row, own: Row, middle: Row, lanes: Lanes, sums: Row
) -> None:
    """Adds one row of the windows of a tile's row to its `sums` (3 * TILE) of w j, w j^2 and
    w g j, with the weights w (side * TILE), a source's grey levels j less those in the windows'
    `middle` (TILE) and the reference's g (TILE + side - 1)."""
    n = np.uint64(TILE)
    for x in range(n):
        less = middle[x]
        mean, square, product = sums[x], sums[n + x], sums[n + n + x]
        for lane in range(len(lanes)):
            k = np.uint64(lane)
            value = warped[x + k] - less
            weighted = weights[k * n + x] * value
            mean += weighted
            square += weighted * value
            product += weighted * own[x + k]
        sums[x], sums[n + x], sums[n + n + x] = mean, square, product


@kernel
def correlate(sums: Row, own: Row, mean: Row, variance: Row, seen: Row, cost: Row) -> None:
    """1 - ZNCC (n,) from the sums of `add_window_row` and what the reference has there (n,): grey
    levels, the windows' `mean` less those, and `variance`. The cost of missing where `seen` is
    0."""
    n = np.uint64(TILE)
    for i in range(len(mean)):
        x = np.uint64(i)
        spread = sums[n + x] - sums[x] * sums[x]
        spread = max(spread, np.float32(MIN_VARIANCE))
        covariance = sums[n + n + x] - (own[x] + mean[x]) * sums[x]
        zncc = covariance / np.sqrt(spread * variance[x])
        bounded = min(max(np.float32(1) - zncc, np.float32(0)), np.float32(LARGEST_COST))
        cost[x] = bounded if seen[x] > 0 else np.float32(MISSING_COST)


@kernel
def keep_smaller(cost: Row, kept: Row) -> None:
    """Swaps the two where `cost` is below `kept` (n,)."""
    for x in range(len(cost)):
        smaller, larger = min(cost[x], kept[x]), max(cost[x], kept[x])
        kept[x], cost[x] = smaller, larger
