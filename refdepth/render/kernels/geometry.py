"""One triangle in homogeneous pixel coordinates, as planes over the picture.

With M = [q0 q1 q2] (columns q_i = (x_i, y_i, w_i)) and a pixel centre p = (px, py, 1), the solution
of M a = p is a_i = b_i / w, where b are the perspective-correct barycentrics and w the depth. So
a_i = A_i . p with the rows A_i of inv(M): three planes that decide coverage (all a_i >= 0), give
1 / w = a_0 + a_1 + a_2, and interpolate any attribute, without clipping (Olano and Greer,
"Triangle scan conversion using 2D homogeneous coordinates", 1997).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]
Plane = tuple[float, float, float]

FLAT = 1e-12
"""A triangle thinner than this part of its coordinates' scale counts as having no area. For a
picture a thousand pixels wide that is 1e-6 square pixels, less than float32 coordinates can say."""
SLACK = 1e-13
"""Rounding allowance of the coverage test, so that no pixel falls between two neighbours."""
BOX_MARGIN = 1e-6
"""Pixels added around a box before rounding it to whole pixels, against rounding of x / w."""
ACROSS_MARGIN, ACROSS_SLACK = 1.0, 1e-4
"""Pixels added where a triangle lies across the camera plane; and the difference of two places, as
a share of them, below which nobody says on which side of the other one lies."""


@kernel
def planes(q: Floats, view: int, i0: int, i1: int, i2: int) -> tuple[Any, ...]:
    """The rows of inv(M), flattened, after a flag: False for a triangle that is never drawn (not
    finite, wholly behind the camera, or without area)."""
    x0, y0, w0 = np.float64(q[view, i0, 0]), np.float64(q[view, i0, 1]), np.float64(q[view, i0, 2])
    x1, y1, w1 = np.float64(q[view, i1, 0]), np.float64(q[view, i1, 1]), np.float64(q[view, i1, 2])
    x2, y2, w2 = np.float64(q[view, i2, 0]), np.float64(q[view, i2, 1]), np.float64(q[view, i2, 2])
    ax, ay, az = y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2
    bx, by, bz = y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0
    cx, cy, cz = y0 * w1 - w0 * y1, w0 * x1 - x0 * w1, x0 * y1 - y0 * x1
    det = x0 * ax + y0 * ay + w0 * az
    scale = (
        max(abs(x0), abs(x1), abs(x2))
        * max(abs(y0), abs(y1), abs(y2))
        * max(abs(w0), abs(w1), abs(w2))
    )
    inverse = 1.0 / det
    ax, ay, az = ax * inverse, ay * inverse, az * inverse
    bx, by, bz = bx * inverse, by * inverse, bz * inverse
    cx, cy, cz = cx * inverse, cy * inverse, cz * inverse
    drawn = (
        (w0 > 0 or w1 > 0 or w2 > 0)
        and abs(det) > FLAT * scale
        and np.isfinite(ax + ay + az + bx + by + bz + cx + cy + cz)
    )
    return drawn, ax, ay, az, bx, by, bz, cx, cy, cz


@kernel
def project_vertices(q: Floats, places: Floats) -> None:
    """Fills `places` (3, V) with x / w, y / w and w of the vertices `q` (V, 3); w is NaN for those
    that are not finite."""
    for i in range(q.shape[0]):
        x, y, w = np.float64(q[i, 0]), np.float64(q[i, 1]), np.float64(q[i, 2])
        inverse = 1.0 / w
        places[0, i], places[1, i] = x * inverse, y * inverse
        places[2, i] = w if np.isfinite(x + y + w) else np.nan


@kernel
def pixel_box(
    places: Floats, i0: int, i1: int, i2: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """First and last pixel column and row (inclusive) that the triangle of the vertices `places`
    (see `project_vertices`) can cover; empty (last < first) when it is wholly behind the camera,
    outside the picture, or not finite."""
    w0, w1, w2 = places[2, i0], places[2, i1], places[2, i2]
    if w0 > 0 and w1 > 0 and w2 > 0:
        u0, u1, u2 = places[0, i0], places[0, i1], places[0, i2]
        v0, v1, v2 = places[1, i0], places[1, i1], places[1, i2]
        left = max(min(u0, u1, u2) - 0.5 - BOX_MARGIN, 0.0)
        right = min(max(u0, u1, u2) - 0.5 + BOX_MARGIN, width - 1.0)
        top = max(min(v0, v1, v2) - 0.5 - BOX_MARGIN, 0.0)
        bottom = min(max(v0, v1, v2) - 0.5 + BOX_MARGIN, height - 1.0)
        # Infinite or NaN u, v (w near zero) fail these comparisons or are clamped above.
        if not (left <= right and top <= bottom):
            return 0, -1, 0, -1
        return int(np.ceil(left)), int(np.floor(right)), int(np.ceil(top)), int(np.floor(bottom))
    if np.isnan(w0 + w1 + w2):
        return 0, -1, 0, -1
    if not (w0 > 0 or w1 > 0 or w2 > 0):
        return 0, -1, 0, -1
    left, right = _extent_across(places[0], places[2], i0, i1, i2, width)
    top, bottom = _extent_across(places[1], places[2], i0, i1, i2, height)
    return left, right, top, bottom


@kernel
def _extent_across(
    along: Floats, w: Floats, i0: int, i1: int, i2: int, size: int
) -> tuple[int, int]:
    """First and last pixel (inclusive), along one axis of the picture, of a triangle across the
    camera plane, whose vertices lie at `along` and `w`: what is ahead of the camera begins at the
    vertices there, and each edge across leaves the picture on the side away from the place `along`
    that its other end would have behind the camera."""
    low, high = np.inf, -np.inf
    for i in (i0, i1, i2):
        if not w[i] > 0:
            continue
        low, high = min(low, along[i]), max(high, along[i])
        for j in (i0, i1, i2):
            if w[j] > 0:
                continue
            slack = ACROSS_MARGIN + ACROSS_SLACK * (abs(along[i]) + abs(along[j]))
            # Infinite and NaN places (w near zero) fail these comparisons.
            if not along[i] > along[j] + slack:
                low = -np.inf
            if not along[i] < along[j] - slack:
                high = np.inf
    first = max(low - 0.5 - ACROSS_MARGIN, 0.0)
    last = min(high - 0.5 + ACROSS_MARGIN, size - 1.0)
    if not first <= last:
        return 0, -1
    return int(np.ceil(first)), int(np.floor(last))


@kernel
def clamp(value: float, last: int) -> float:
    """`value` kept within [0, last]; NaN becomes 0."""
    value = value if value > 0.0 else 0.0
    return value if value < last else float(last)
