"""Compiled semi-global aggregation of a cost volume (Hirschmueller 2008)."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel


@kernel
def _step(
    cost: NDArray[np.float32],
    previous: NDArray[np.float32],
    lowest: float,
    small: float,
    large: float,
    current: NDArray[np.float32],
    total: NDArray[np.float32],
) -> float:
    """One step along a path (eq. 13); returns the lowest value of the new path costs. `previous`
    and `current` are padded by one on either side with large values."""
    n = cost.shape[0]
    jump = np.float32(lowest + large)
    step = np.float32(small)
    base = np.float32(lowest)
    for d in range(n):
        value = min(previous[d + 1], jump)
        value = min(value, previous[d] + step)
        value = min(value, previous[d + 2] + step)
        value += cost[d] - base
        current[d + 1] = value
        total[d] += value
    smallest = current[1]
    for d in range(1, n):
        smallest = min(smallest, current[d + 1])
    return smallest


@kernel
def _aggregate_line(
    volume: NDArray[np.float32],
    link_x: NDArray[np.float32],
    link_y: NDArray[np.float32],
    small: float,
    large: float,
    down: int,
    line: int,
    total: NDArray[np.float32],
) -> None:
    """Both directions along one row, or where `down` is 1 along one column."""
    height, width, n = volume.shape
    length = height if down else width
    previous, current = np.empty(n + 2, np.float32), np.empty(n + 2, np.float32)
    for backwards in range(2):
        previous[:] = 0
        current[:] = 0
        for path in (previous, current):
            path[0] = path[n + 1] = np.float32(1e9)
        lowest = 0.0
        for i in range(length):
            place = length - 1 - i if backwards else i
            y, x = (place, line) if down else (line, place)
            link = 1.0
            if i > 0:
                before = place - 1 + backwards
                link = link_y[before, line] if down else link_x[line, before]
            penalty = max(small, large * link)
            lowest = _step(volume[y, x], previous, lowest, small, penalty, current, total[y, x])
            previous, current = current, previous


@parallel_kernel
def aggregate(
    volume: NDArray[np.float32],
    link_x: NDArray[np.float32],
    link_y: NDArray[np.float32],
    small: float,
    large: float,
    total: NDArray[np.float32],
) -> None:
    """Adds to `total` (H, W, D) the path costs of four directions through `volume` (H, W, D).

    `small` is the penalty of a change by one hypothesis, `large` that of any other change, scaled
    by how strongly neighbouring pixels are linked: `link_x` (H, W-1), `link_y` (H-1, W) in [0, 1].
    """
    for down in range(2):
        for line in prange(volume.shape[down]):
            # The index of a shared loop is unsigned: sums with whole numbers would be fractions.
            _aggregate_line(volume, link_x, link_y, small, large, down, np.int64(line), total)


@kernel
def pick_minimum(total: NDArray[np.float32], position: NDArray[np.float32]) -> None:
    """The best hypothesis of each pixel of `total` (H, W, D), sub-step by a parabola, in
    `position` (H, W)."""
    height, width, n = total.shape
    for y in range(height):
        for x in range(width):
            costs = total[y, x]
            best = 0
            for d in range(1, n):
                if costs[d] < costs[best]:
                    best = d
            offset = 0.0
            if 0 < best < n - 1:
                bend = costs[best - 1] + costs[best + 1] - 2 * costs[best]
                if bend > 1e-9:
                    offset = (costs[best - 1] - costs[best + 1]) / (2 * bend)
            position[y, x] = best + min(max(offset, -0.5), 0.5)
