"""Corners of a tag where its four edges meet: found a few hundredths of a pixel exactly, where
corner detectors round the corner off by a fifth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SAMPLES = 24
"""Places on an edge."""
_ENDS = 0.12
"""Share of an edge at either end that is left out: there the other edges' blur comes in."""
_STEP_PX = 0.25
_WIDTH_PX = (1.5, 4.0)
"""Limits of how far an edge is looked for across it."""
_CELLS = 10
"""Cells across a tag of the finest families; the black border and the white margin are one wide."""
_FAINT = 0.6
"""Contrast, relative to the upper quartile, below which something hides a place on an edge."""
_FARTHEST_PX = 3.0
"""A corner that moves farther is taken as it was."""


def refined_corners(grey: NDArray[np.uint8], corners: Array) -> Array:
    """Corners (4, 2) of a dark square on light ground, near `corners` (4, 2), in order; pixels, the
    centre of the first pixel is (0.5, 0.5). As given where its edges cannot be made out."""
    lines = [
        _edge(grey, a, b, corners.mean(axis=0))
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    out = corners.copy()
    for number in range(4):
        before, after = lines[number - 1], lines[number]
        if before is None or after is None:
            continue
        normals = np.stack([before[:2], after[:2]])
        if abs(np.linalg.det(normals)) < 0.1:
            continue
        met = np.linalg.solve(normals, np.array([before[2], after[2]]))
        if np.linalg.norm(met - corners[number]) <= _FARTHEST_PX:
            out[number] = met
    return out


def _edge(grey: NDArray[np.uint8], a: Array, b: Array, middle: Array) -> Array | None:
    """The edge near the segment from `a` to `b` as (nx, ny, d), n . x = d; None where there is
    none. At each place the dark and light pixels across it are weighed against each other, which no
    symmetric blur moves."""
    from scipy.ndimage import map_coordinates

    length = float(np.linalg.norm(b - a))
    along = (b - a) / max(length, 1e-9)
    outward = np.array([along[1], -along[0]])
    if outward @ (middle - a) > 0:
        outward = -outward
    reach = float(np.clip(0.6 * length / _CELLS, *_WIDTH_PX))
    t = np.arange(-reach, reach + _STEP_PX / 2, _STEP_PX)
    share = np.linspace(_ENDS, 1 - _ENDS, _SAMPLES)
    places = a + share[:, None] * (b - a)
    xy = places[:, None] + t[:, None] * outward - 0.5
    profile = map_coordinates(grey.astype(np.float32), xy[..., ::-1].T, order=1, mode="nearest").T
    dark, light = profile[:, :2].mean(axis=1), profile[:, -2:].mean(axis=1)
    contrast = light - dark
    good = contrast > max(_FAINT * float(np.quantile(contrast, 0.75)), 1.0)
    if good.sum() < _SAMPLES // 2:
        return None
    filled = (profile[good] - dark[good, None]) / contrast[good, None]
    # The trapezoidal rule: how much of the way across is light.
    lit = (filled.sum(axis=1) - (filled[:, 0] + filled[:, -1]) / 2) * _STEP_PX
    offset = t[-1] - lit
    slope, start = _line(share[good], offset)
    first, last = a + start * outward, b + (start + slope) * outward
    direction = (last - first) / np.linalg.norm(last - first)
    normal = np.array([direction[1], -direction[0]])
    return np.array([*normal, normal @ first])


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and start of the line that most of the places (N,) lie on: Theil and Sen's, then least
    squares of what is near it. Something may stand before a part of the edge."""
    i, j = np.triu_indices(len(x), 1)
    slope = float(np.median((y[j] - y[i]) / (x[j] - x[i])))
    off = y - slope * x
    off = np.abs(off - np.median(off))
    near = off <= max(3 * float(np.median(off)), 0.02)
    slope, start = np.polyfit(x[near], y[near], 1)
    return float(slope), float(start)
