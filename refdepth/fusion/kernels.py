"""Compiled loops of the cross-view check and of the consensus. Every pixel writes only its own
place, so the results do not depend on the number of threads."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Counts = NDArray[np.uint8]
Bits = NDArray[np.uint32]


@kernel(inline="always")
def _project(A: Array, b: Array, px: float, py: float, z: float) -> tuple[float, float, float]:
    """Where the point at depth z of pixel position (px, py) falls in another view, and its depth
    there; positions mean nothing where that is not positive."""
    seen = (A[2, 0] * px + A[2, 1] * py + A[2, 2]) * z + b[2]
    u = ((A[0, 0] * px + A[0, 1] * py + A[0, 2]) * z + b[0]) / seen
    v = ((A[1, 0] * px + A[1, 1] * py + A[1, 2]) * z + b[1]) / seen
    return u, v, seen


@kernel(inline="always")
def _sample(depth: Map, u: float, v: float, max_ratio: float) -> float:
    """Depth at pixel (u, v): bilinear where the four neighbours lie on one surface, else that of
    the pixel itself; 0 where unknown."""
    height, width = depth.shape
    x, y = int(u), int(v)
    nearest = depth[y, x]
    if not nearest > 0:
        return 0.0
    x0, y0 = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
    if x0 < 0 or y0 < 0 or x0 + 1 >= width or y0 + 1 >= height:
        return float(nearest)
    a, b = depth[y0, x0], depth[y0, x0 + 1]
    c, d = depth[y0 + 1, x0], depth[y0 + 1, x0 + 1]
    low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if not (low > 0 and high <= low * (1 + 2 * max_ratio)):
        return float(nearest)
    s, t = u - 0.5 - x0, v - 0.5 - y0
    return (1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * c + s * d)


@parallel_kernel
def compare(
    depth: Map,
    source_depth: Map,
    source_confidence: Map,
    A: Array,
    b: Array,
    A_back: Array,
    b_back: Array,
    max_px: float,
    max_ratio: float,
    agreeing: Counts,
    favour: Map,
    against: Map,
) -> None:
    """Adds one source's opinion on every pixel of `depth` to the accumulators (height, width): how
    many agree, with what confidence, and with what confidence others see through."""
    height, width = depth.shape
    source_height, source_width = source_depth.shape
    for y in prange(height):
        py = y + 0.5
        for x in range(width):
            z = float(depth[y, x])
            if not z > 0:
                continue
            px = x + 0.5
            u, v, seen = _project(A, b, px, py, z)
            if not seen > 0:
                continue
            if not (u >= 0 and v >= 0 and u < source_width and v < source_height):
                continue
            measured = _sample(source_depth, u, v, max_ratio)
            if not measured > 0:
                continue
            if measured > seen * (1 + 2 * max_ratio):
                against[y, x] += source_confidence[int(v), int(u)]
                continue
            back_u, back_v, back = _project(A_back, b_back, u, v, measured)
            if not back > 0:
                continue
            ex, ey = back_u - px, back_v - py
            if ex * ex + ey * ey > max_px * max_px or abs(measured / seen - 1) > max_ratio:
                continue
            agreeing[y, x] += 1
            favour[y, x] += source_confidence[int(v), int(u)]


@parallel_kernel
def draw(
    depth: Map,
    source_depth: Map,
    source_confidence: Map,
    A: Array,
    b: Array,
    focal_ratio: float,
    max_ratio: float,
    spread: float,
    floor: float,
    bit: np.uint32,
    voters: Bits,
    weight: Array,
    weighted_inverse: Array,
) -> None:
    """Adds what one source measures on the ray of every pixel of `depth` to the accumulators
    (height, width), where that is within `max_ratio` of the pixel's depth, and sets `bit` in
    `voters` there. `focal_ratio` is the source's focal length over the pixel's. The weight is the
    square of confidence and of how much more finely the source sees, times a bell of relative width
    `spread` around the pixel's depth."""
    height, width = depth.shape
    source_height, source_width = source_depth.shape
    for y in prange(height):
        py = y + 0.5
        for x in range(width):
            z = float(depth[y, x])
            if not z > 0:
                continue
            px = x + 0.5
            slope = A[2, 0] * px + A[2, 1] * py + A[2, 2]
            u, v, seen = _project(A, b, px, py, z)
            if not (seen > 0 and slope > 0):
                continue
            if not (u >= 0 and v >= 0 and u < source_width and v < source_height):
                continue
            measured = _sample(source_depth, u, v, max_ratio)
            if not (measured > 0 and abs(measured / seen - 1) <= max_ratio):
                continue
            met = (measured - b[2]) / slope  # the source's surface, met on the pixel's own ray
            off = (met / z - 1) / spread
            finer = focal_ratio * z / measured
            confidence = max(float(source_confidence[int(v), int(u)]), floor)
            w = confidence * confidence * finer * finer * np.exp(-0.5 * off * off)
            voters[y, x] |= bit
            weight[y, x] += w
            weighted_inverse[y, x] += w / met


@parallel_kernel
def claim(
    depth: Map,
    emitted: NDArray[np.bool_],
    voters: Bits,
    bit: np.uint32,
    A: Array,
    b: Array,
    focal_ratio: float,
    lead: float,
    claimed: NDArray[np.bool_],
) -> None:
    """Marks the source pixels whose surface the emitted ref pixels have already given, unless the
    source sees it finer by the factor `lead`. `focal_ratio` is the ref's focal length over the
    source's. Threads may mark one pixel twice, with the same value."""
    height, width = depth.shape
    source_height, source_width = claimed.shape
    for y in prange(height):
        py = y + 0.5
        for x in range(width):
            if not (emitted[y, x] and voters[y, x] & bit):
                continue
            px, z = x + 0.5, float(depth[y, x])
            u, v, seen = _project(A, b, px, py, z)
            if not seen > 0 or seen * focal_ratio * lead < z:
                continue
            if u >= 0 and v >= 0 and u < source_width and v < source_height:
                claimed[int(v), int(u)] = True


@parallel_kernel
def near_steps(depth: Map, radius: int, max_ratio: float) -> NDArray[np.bool_]:
    """Where the known depths within `radius` pixels differ by more than the factor 1 + max_ratio
    (height, width)."""
    height, width = depth.shape
    out = np.zeros((height, width), np.bool_)
    for y in prange(height):
        for x in range(width):
            if not depth[y, x] > 0:
                continue
            low, high = depth[y, x], depth[y, x]
            for j in range(max(y - radius, 0), min(y + radius + 1, height)):
                for i in range(max(x - radius, 0), min(x + radius + 1, width)):
                    other = depth[j, i]
                    if other > 0:
                        low, high = min(low, other), max(high, other)
            out[y, x] = high > low * (1 + max_ratio)
    return out


@kernel
def small_segments(depth: Map, keep: NDArray[np.bool_], max_ratio: float, least: int) -> None:
    """Clears from `keep` (height, width) the connected pieces of surface with fewer than `least`
    pixels. Two of a pixel and its eight neighbours are connected where both are kept and their
    depths differ by less than the factor 1 + max_ratio."""
    height, width = depth.shape
    seen = np.zeros((height, width), np.bool_)
    queue = np.empty(height * width, np.int64)
    for start in range(height * width):
        if seen[start // width, start % width] or not keep[start // width, start % width]:
            continue
        seen[start // width, start % width] = True
        queue[0] = start
        head, tail = 0, 1
        while head < tail:
            y, x = queue[head] // width, queue[head] % width
            head += 1
            z = depth[y, x]
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    if seen[j, i] or not keep[j, i]:
                        continue
                    other = depth[j, i]
                    if max(z, other) <= min(z, other) * (1 + max_ratio):
                        seen[j, i] = True
                        queue[tail] = j * width + i
                        tail += 1
        if tail < least:
            for k in range(tail):
                keep[queue[k] // width, queue[k] % width] = False
