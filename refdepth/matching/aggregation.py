"""Compiled semi-global aggregation of a cost volume (Hirschmueller 2008)."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel


@kernel(inline="always")
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
    height, width, n = volume.shape
    for y in prange(height):
        previous = np.full(n + 2, np.float32(1e9))
        current = np.full(n + 2, np.float32(1e9))
        for direction in range(2):
            lowest = 0.0
            previous[1 : n + 1] = 0
            for i in range(width):
                x = i if direction == 0 else width - 1 - i
                link = 1.0
                if i > 0:
                    link = link_x[y, x - 1] if direction == 0 else link_x[y, x]
                lowest = _step(
                    volume[y, x],
                    previous,
                    lowest,
                    small,
                    max(small, large * link),
                    current,
                    total[y, x],
                )
                previous, current = current, previous
    for x in prange(width):
        previous = np.full(n + 2, np.float32(1e9))
        current = np.full(n + 2, np.float32(1e9))
        for direction in range(2):
            lowest = 0.0
            previous[1 : n + 1] = 0
            for i in range(height):
                y = i if direction == 0 else height - 1 - i
                link = 1.0
                if i > 0:
                    link = link_y[y - 1, x] if direction == 0 else link_y[y, x]
                lowest = _step(
                    volume[y, x],
                    previous,
                    lowest,
                    small,
                    max(small, large * link),
                    current,
                    total[y, x],
                )
                previous, current = current, previous


@parallel_kernel
def pick_minimum(total: NDArray[np.float32], position: NDArray[np.float32]) -> None:
    """The best hypothesis of each pixel of `total` (H, W, D), sub-step by a parabola, in
    `position` (H, W)."""
    height, width, n = total.shape
    for y in prange(height):
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
