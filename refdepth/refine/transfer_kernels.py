"""Compiled transfer of depth maps between views."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def splat(
    depths: NDArray[np.float32],
    confidences: NDArray[np.float32],
    sizes: NDArray[np.int64],
    A: NDArray[np.float64],
    b: NDArray[np.float64],
    seen_depth: NDArray[np.float32],
    seen_confidence: NDArray[np.float32],
) -> None:
    """Draws each source's depth map into the reference, nearest point first.

    `depths`, `confidences` (S, Hs, Ws) are padded to the largest source, `sizes` (S, 2) holds each
    one's height and width. A (S, 3, 3), b (S, 3): reference pixel of source pixel (x, y) at z is
    A (x, y, 1) z + b. Fills `seen_depth` and `seen_confidence` (S, H, W), 0 where nothing falls.
    """
    n_sources, height, width = seen_depth.shape
    for s in prange(n_sources):
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
                if held == 0 or w < held:
                    seen_depth[s, iv, iu] = w
                    seen_confidence[s, iv, iu] = confidences[s, y, x]


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
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
    for y in prange(height):
        for x in range(width):
            for i in range(n):
                weight = np.float32(gain) * weights[i, y, x]
                if weight > 0:
                    for d in range(changes.shape[0]):
                        distance = (values[i, y, x] - changes[d]) * sharpness
                        volume[y, x, d] += weight * min(distance * distance, np.float32(1))
