"""Sampling a picture of the whole sphere."""

# mypy: allow-untyped-defs
# (numba infers the kernels' types)

from __future__ import annotations

import math

from refdepth.compiled import kernel

_A = -0.5
"""Catmull-Rom's value of Keys' cubic convolution (1981), which is exact for parabolas."""


@kernel
def _weight(x):
    x = abs(x)
    if x < 1.0:
        return ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1.0
    if x < 2.0:
        return ((_A * x - 5.0 * _A) * x + 8.0 * _A) * x - 4.0 * _A
    return 0.0


@kernel
def sample_sphere(panorama, xy, out):
    """Bicubic samples of an equirectangular picture (H, W, 3) at its pixels `xy` (R, C, 2), written
    into `out` (R, C, 3), 8 bit. Rows go on round the sphere; beyond a pole its picture goes on half
    a turn away."""
    height, width = panorama.shape[:2]
    for i in range(xy.shape[0]):
        for j in range(xy.shape[1]):
            x, y = xy[i, j, 0] - 0.5, xy[i, j, 1] - 0.5
            left, top = math.floor(x), math.floor(y)
            red = green = blue = 0.0
            for n in range(-1, 3):
                wy = _weight(y - (top + n))
                row, turn = top + n, 0
                if row < 0:
                    row, turn = -1 - row, width // 2
                elif row >= height:
                    row, turn = 2 * height - 1 - row, width // 2
                for m in range(-1, 3):
                    weight = wy * _weight(x - (left + m))
                    column = (left + m + turn) % width
                    red += weight * panorama[row, column, 0]
                    green += weight * panorama[row, column, 1]
                    blue += weight * panorama[row, column, 2]
            out[i, j, 0] = round(min(max(red, 0.0), 255.0))
            out[i, j, 1] = round(min(max(green, 0.0), 255.0))
            out[i, j, 2] = round(min(max(blue, 0.0), 255.0))
