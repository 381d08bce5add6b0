"""Compiled loops of `transfer`; `torch_transfer` has the same in tensor operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

SAME_SURFACE = 1.03
"""Ratio of the depths of two points in one pixel up to which they lie on one surface."""


@kernel
def splat(
    depths: NDArray[np.float32],
    confidences: NDArray[np.float32],
    sizes: NDArray[np.int64],
    A: NDArray[np.float64],
    b: NDArray[np.float64],
    seen_depth: NDArray[np.float32],
    seen_confidence: NDArray[np.float32],
) -> None:
    """Draws each source's depth map into the reference. Of several points that fall into a pixel
    the nearest surface counts, and of that the point closest to the pixel's centre: the nearest
    point of a slanted surface would lie to one side.

    `depths`, `confidences` (S, Hs, Ws) are padded to the largest source, `sizes` (S, 2) holds each
    one's height and width. A (S, 3, 3), b (S, 3): reference pixel of source pixel (x, y) at z is
    A (x, y, 1) z + b. Fills `seen_depth` and `seen_confidence` (S, H, W), 0 where nothing falls.
    """
    n_sources, height, width = seen_depth.shape
    for s in range(n_sources):
        offset = np.empty((height, width), np.float32)
        seen_depth[s] = 0
        seen_confidence[s] = 0
        for y in range(sizes[s, 0]):
            for x in range(sizes[s, 1]):
                z = float(depths[s, y, x])
                if not z > 0:
                    continue
                xc = x + 0.5
                yc = y + 0.5
                w = (A[s, 2, 0] * xc + A[s, 2, 1] * yc + A[s, 2, 2]) * z + b[s, 2]
                if not w > 0:
                    continue
                u = ((A[s, 0, 0] * xc + A[s, 0, 1] * yc + A[s, 0, 2]) * z + b[s, 0]) / w
                v = ((A[s, 1, 0] * xc + A[s, 1, 1] * yc + A[s, 1, 2]) * z + b[s, 1]) / w
                if not (0 <= u < width and 0 <= v < height):
                    continue
                iu = int(u)
                iv = int(v)
                held = seen_depth[s, iv, iu]
                away = np.float32((u - iu - 0.5) ** 2 + (v - iv - 0.5) ** 2)
                before = w * SAME_SURFACE < held
                same = w < held * SAME_SURFACE and not before
                if held == 0 or before or (same and away < offset[iv, iu]):
                    seen_depth[s, iv, iu] = w
                    seen_confidence[s, iv, iu] = confidences[s, y, x]
                    offset[iv, iu] = away


@kernel
def vote(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    changes: NDArray[np.float32],
    tolerance: float,
    gain: float,
    volume: NDArray[np.float32],
) -> None:
    """Adds to `volume` (H, W, D) what the opinions `values` (S, H, W) cost the hypotheses
    `changes` (D,): per opinion at most gain * weight, reached at a distance of `tolerance`."""
    n, height, width = values.shape
    sharpness = np.float32(1 / tolerance)
    for y in range(height):
        for x in range(width):
            for i in range(n):
                weight = np.float32(gain) * weights[i, y, x]
                if weight > 0:
                    for d in range(changes.shape[0]):
                        distance = (values[i, y, x] - changes[d]) * sharpness
                        volume[y, x, d] += weight * min(distance * distance, np.float32(1))
