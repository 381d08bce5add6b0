"""Compiled warping: a row of the reference, at given depth, sampled bilinearly in a source.

In short passes over a row, so that all but the lookups become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

Row = NDArray[np.float32]
Texels = NDArray[np.int32]
HALF, ZERO, ONE = np.float32(0.5), np.float32(0), np.float32(1)
NEAREST = np.float32(1e-6)
"""Least depth in the source, as a part of that in the reference."""


@kernel
def project(
    A: NDArray[np.float32],
    b: NDArray[np.float32],
    y: int,
    left: int,
    depth: Row,
    factor: float,
    height: int,
    width: int,
    u: Row,
    v: Row,
    seen: Row,
) -> None:
    """Where the pixels of row `y` from column `left` on, at `depth` (n,) * `factor`, lie in a
    source of `height` and `width`: `u` and `v` (n,) in pixels, whole numbers at their centres, kept
    within the outer ones. `seen` (n,) is 1 where nothing had to be kept, else 0.

    A (3, 3), b (3,): source pixel of (x, y) at z is A (x, y, 1) z + b.
    """
    yc = np.float32(y + 0.5)
    at_u, at_v, at_w = A[0, 1] * yc + A[0, 2], A[1, 1] * yc + A[1, 2], A[2, 1] * yc + A[2, 2]
    by_u, by_v, by_w = A[0, 0], A[1, 0], A[2, 0]
    b_u, b_v, b_w = b[0], b[1], b[2]
    right, lowest = np.float32(width - 0.5), np.float32(height - 0.5)
    for x in range(len(depth)):
        z = depth[x] * factor
        xc = np.float32(np.int32(left) + np.int32(x)) + HALF
        w = (by_w * xc + at_w) * z + b_w
        ahead = (z > ZERO) & (w > NEAREST * z)
        inverse = ONE / w if ahead else ZERO
        pu = ((by_u * xc + at_u) * z + b_u) * inverse
        pv = ((by_v * xc + at_v) * z + b_v) * inverse
        inside = ahead & (pu > HALF) & (pv > HALF) & (pu < right) & (pv < lowest)
        seen[x] = ONE if inside else ZERO
        # Written so that NaN is kept within as well.
        pu, pv = pu if pu > HALF else HALF, pv if pv > HALF else HALF
        u[x] = (pu if pu < right else right) - HALF
        v[x] = (pv if pv < lowest else lowest) - HALF


@kernel
def locate(
    u: Row, v: Row, pitch: int, height: int, width: int, corner: Texels, nearest: Texels
) -> None:
    """Splits places (n,) into `corner`, the pixel up and left of them, and the fractions from there
    on, which `u` and `v` become; `nearest` is the pixel that they lie in. Pixels are counted
    through rows of `pitch`."""
    pitch32, none = np.int32(pitch), np.int32(0)
    last_u, last_v = np.int32(max(width - 2, 0)), np.int32(max(height - 2, 0))
    for x in range(len(u)):
        column, row = min(np.int32(u[x]), last_u), min(np.int32(v[x]), last_v)
        part_u, part_v = u[x] - np.float32(column), v[x] - np.float32(row)
        at = row * pitch32 + column
        corner[x] = at
        nearest[x] = at + (pitch32 if part_v >= HALF else none) + np.int32(part_u >= HALF)
        u[x], v[x] = part_u, part_v


@kernel
def look_up(
    image: Row,
    usable: NDArray[np.bool_],
    pitch: int,
    corner: Texels,
    nearest: Texels,
    part_u: Row,
    part_v: Row,
    out: Row,
    seen: Row,
) -> None:
    """Bilinear values (n,) of `image`, its rows of `pitch` pixels one after the other; `seen`
    becomes 0 where the nearest pixel is not `usable`."""
    below, one = np.uint64(pitch), np.uint64(1)
    for x in range(len(corner)):
        i = np.uint64(corner[x])
        if not usable[np.uint64(nearest[x])]:
            seen[x] = ZERO
        fu, fv = np.float64(part_u[x]), np.float64(part_v[x])
        upper = image[i] + fu * (image[i + one] - image[i])
        lower = image[i + below] + fu * (image[i + below + one] - image[i + below])
        out[x] = upper + fv * (lower - upper)
