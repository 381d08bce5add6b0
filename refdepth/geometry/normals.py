"""Surface normals of a depth map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.types.camera import PinholeCamera

Array = NDArray[np.float64]
Map = NDArray[np.float32]

_REACH = 4
"""Samples from the middle of a window to its edge; wider windows are sampled more coarsely."""


def estimate_normals(depth: Map, camera: PinholeCamera, *, radius_px: int, max_ratio: float) -> Map:
    """Unit normals (height, width, 3) in camera axes, towards the camera; zero where the depth is
    unknown or too little of the surface is seen.

    Each is that of a plane through the depth within `radius_px` pixels, as far as it differs from
    the pixel's own by a share of less than `max_ratio`. The inverse depth of a plane n . X = d is
    linear in the pixel: 1 / z = p . (K^-T n / d). A least squares fit of (a, b, c) to the window's
    inverse depths gives n ~ K^T (a, b, c).
    """
    step = max(1, round(radius_px / _REACH))
    radius = radius_px // step * step
    normals: Map = _fit_planes(depth, camera.K, radius, step, max_ratio)
    return normals


@kernel
def _fit_planes(depth: Map, K: Array, radius: int, step: int, max_ratio: float) -> Map:
    """Unit normals (height, width, 3); zero where undetermined. The window is sampled every `step`
    pixels from its middle. Every pixel writes only its own place."""
    height, width = depth.shape
    out = np.zeros((height, width, 3), np.float32)
    for y in range(height):
        for x in range(width):
            z = float(depth[y, x])
            if not z > 0:
                continue
            n, sx, sy, sxx, sxy, syy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            sd, sxd, syd = 0.0, 0.0, 0.0
            for j in range(y - min(y // step * step, radius), min(y + radius + 1, height), step):
                for i in range(x - min(x // step * step, radius), min(x + radius + 1, width), step):
                    other = float(depth[j, i])
                    if not (other > 0 and abs(other / z - 1) <= max_ratio):
                        continue
                    dx, dy, d = float(i - x), float(j - y), z / other - 1
                    n += 1
                    sx += dx
                    sy += dy
                    sxx += dx * dx
                    sxy += dx * dy
                    syy += dy * dy
                    sd += d
                    sxd += dx * d
                    syd += dy * d
            cxx, cxy, cyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
            cxd, cyd = sxd - sx * sd / n, syd - sy * sd / n
            determinant = cxx * cyy - cxy * cxy
            if not determinant > 0.25:
                continue
            a = (cyy * cxd - cxy * cyd) / determinant
            b = (cxx * cyd - cxy * cxd) / determinant
            c = 1 + (sd - a * sx - b * sy) / n - a * (x + 0.5) - b * (y + 0.5)
            nx, ny = K[0, 0] * a, K[0, 1] * a + K[1, 1] * b
            nz = K[0, 2] * a + K[1, 2] * b + c
            length = -np.sqrt(nx * nx + ny * ny + nz * nz)
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = nx / length, ny / length, nz / length
    return out
