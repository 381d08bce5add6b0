"""Compiled matching: each hypothesis warps the source views and compares windows.

Work is split into bands of rows whose number does not depend on the thread count, and every band
sums in a fixed order, so results are the same bit for bit on any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel

BAND_ROWS = 24
MISSING_COST = 1.2
"""Cost of a source that does not see the point: worse than no correlation, better than opposite."""
MIN_VARIANCE = 1e-5
"""Grey-level variance (images in [0, 1]) below which a window is flat: about one level of 256."""


@parallel_kernel
def support_weights(
    gray: NDArray[np.float32], radius: int, sigma_gray: float, weights: NDArray[np.float32]
) -> None:
    """Fills `weights` (T, H, W), T = (2 radius + 1)^2, with each pixel's window weights, which sum
    to 1: bilateral in the grey level (`sigma_gray` <= 0: equal), 0 outside the picture."""
    height, width = gray.shape
    side = 2 * radius + 1
    for y in prange(height):
        for x in range(width):
            total = 0.0
            for t in range(side * side):
                yy = y + t // side - radius
                xx = x + t % side - radius
                weight = 0.0
                if 0 <= yy < height and 0 <= xx < width:
                    weight = 1.0
                    if sigma_gray > 0:
                        weight = np.exp(-abs(gray[yy, xx] - gray[y, x]) / sigma_gray)
                weights[t, y, x] = weight
                total += weight
            for t in range(side * side):
                weights[t, y, x] /= total


@kernel
def _warp_row(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    A: NDArray[np.float32],
    b: NDArray[np.float32],
    y: int,
    depth: NDArray[np.float32],
    factor: float,
    out: NDArray[np.float32],
    seen: NDArray[np.bool_],
    pad: int,
) -> None:
    """One row of the reference grid, sampled bilinearly in a source; `out` is padded by `pad`."""
    height, width = image.shape
    yc = np.float32(y + 0.5)
    ax = A[0, 1] * yc + A[0, 2]
    ay = A[1, 1] * yc + A[1, 2]
    aw = A[2, 1] * yc + A[2, 2]
    for x in range(depth.shape[0]):
        z = depth[x] * factor
        xc = np.float32(x + 0.5)
        w = (A[2, 0] * xc + aw) * z + b[2]
        ok = z > 0 and w > 1e-6 * z
        inverse = np.float32(1.0) / w if ok else np.float32(0.0)
        u = ((A[0, 0] * xc + ax) * z + b[0]) * inverse
        v = ((A[1, 0] * xc + ay) * z + b[1]) * inverse
        ok = ok and u > 0.5 and v > 0.5 and u < width - 0.5 and v < height - 0.5
        if not ok:
            seen[x] = False
            u = min(max(u, np.float32(0.5)), np.float32(width - 0.5))
            v = min(max(v, np.float32(0.5)), np.float32(height - 0.5))
        u -= np.float32(0.5)
        v -= np.float32(0.5)
        iu = min(int(u), width - 2)
        iv = min(int(v), height - 2)
        fu = u - iu
        fv = v - iv
        if ok:
            seen[x] = usable[iv + int(fv + 0.5), iu + int(fu + 0.5)]
        top = image[iv, iu] + fu * (image[iv, iu + 1] - image[iv, iu])
        bottom = image[iv + 1, iu] + fu * (image[iv + 1, iu + 1] - image[iv + 1, iu])
        out[x + pad] = top + fv * (bottom - top)


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
    best: int,
    volume: NDArray[np.float32],
) -> None:
    """Fills `volume` (H, W, D) with 1 - ZNCC in [0, 1.5], the mean of the `best` of S sources.

    `gray`, `mean`, `variance` (H, W) describe the reference, `weights` (T, H, W) its windows.
    Hypothesis d puts every pixel at depth * factors[d], so windows follow the slant of `depth`.
    A (S, 3, 3), b (S, 3): source pixel of (x, y) at z is A (x, y, 1) z + b. `images` (S, Hs, Ws)
    is padded to the largest source; `sizes` (S, 2) holds each source's height and width.
    """
    height, width = gray.shape
    n_sources = images.shape[0]
    n_taps = weights.shape[0]
    side = int(np.sqrt(n_taps) + 0.5)
    radius = side // 2
    padded = np.zeros((height, width + 2 * radius), np.float32)
    padded[:, radius : radius + width] = gray
    n_bands = (height + BAND_ROWS - 1) // BAND_ROWS
    for band in prange(n_bands):
        y0 = band * BAND_ROWS
        y1 = min(y0 + BAND_ROWS, height)
        rows = y1 - y0
        warped = np.zeros((rows + 2 * radius, width + 2 * radius), np.float32)
        seen = np.zeros((rows + 2 * radius, width), np.bool_)
        costs = np.empty((n_sources, rows, width), np.float32)
        sum_j = np.empty(width, np.float32)
        sum_jj = np.empty(width, np.float32)
        sum_gj = np.empty(width, np.float32)
        kept = np.empty(best, np.float32)
        for d in range(factors.shape[0]):
            for s in range(n_sources):
                image = images[s, : sizes[s, 0], : sizes[s, 1]]
                for r in range(max(y0 - radius, 0), min(y1 + radius, height)):
                    i = r - y0 + radius
                    _warp_row(
                        image,
                        usable[s],
                        A[s],
                        b[s],
                        r,
                        depth[r],
                        factors[d],
                        warped[i],
                        seen[i],
                        radius,
                    )
                for r in range(rows):
                    sum_j[:] = 0
                    sum_jj[:] = 0
                    sum_gj[:] = 0
                    for t in range(n_taps):
                        dy = t // side
                        dx = t % side
                        yy = y0 + r + dy - radius
                        if yy < 0 or yy >= height:
                            continue
                        w_row = weights[t, y0 + r]
                        j_row = warped[r + dy, dx : dx + width]
                        g_row = padded[yy, dx : dx + width]
                        for x in range(width):
                            wj = w_row[x] * j_row[x]
                            sum_j[x] += wj
                            sum_jj[x] += wj * j_row[x]
                            sum_gj[x] += wj * g_row[x]
                    for x in range(width):
                        var_j = max(sum_jj[x] - sum_j[x] * sum_j[x], np.float32(MIN_VARIANCE))
                        covariance = sum_gj[x] - mean[y0 + r, x] * sum_j[x]
                        zncc = covariance / np.sqrt(var_j * variance[y0 + r, x])
                        cost = min(max(np.float32(1) - zncc, np.float32(0)), np.float32(1.5))
                        costs[s, r, x] = cost if seen[r + radius, x] else np.float32(MISSING_COST)
            for r in range(rows):
                for x in range(width):
                    kept[:] = np.float32(2)
                    for s in range(n_sources):
                        cost = costs[s, r, x]
                        for k in range(best):
                            if cost < kept[k]:
                                cost, kept[k] = kept[k], cost
                    total = np.float32(0)
                    for k in range(best):
                        total += kept[k]
                    volume[y0 + r, x, d] = total / best
