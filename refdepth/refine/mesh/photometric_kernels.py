"""The loops of `photometric`: residuals pixel by pixel, and their sums at the vertices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

Array = NDArray[Any]
Grid = NDArray[np.float64]

SAME_SURFACE_PX = 4.0
"""What a pixel shows of either picture lies no further apart in the reference, in pixels of the
level: else it is two surfaces, and their difference no slope."""
INSIDE = 0.999
"""Of the texture's last channel: where the reference may be used."""
OUTLIER = 1.5
"""Residual energy, in medians over all pixels, at which a pixel keeps a quarter of its weight."""
SAMPLED = 8
"""The median is taken over every so many pixels."""
LEAST_SCALE = 1e-8


@kernel
def compare(
    near: Array,
    far: Array,
    near_place: Array,
    far_place: Array,
    images: Array,
    given: Array,
    energy: Array,
    weight: Array,
) -> None:
    """Residual energy and weight (S, H, W) of every pixel; weight 0 where either picture shows
    nothing, or each another surface."""
    views, height, width, channels = images.shape
    for view in range(views):
        for y in range(height):
            for x in range(width):
                energy[view, y, x] = weight[view, y, x] = 0
                if not (
                    near[view, y, x, channels] > INSIDE
                    and far[view, y, x, channels] > INSIDE
                    and given[view, y, x] > 0
                ):
                    continue
                u = far_place[0, view, y, x] - near_place[0, view, y, x]
                v = far_place[1, view, y, x] - near_place[1, view, y, x]
                if not (abs(u) < SAME_SURFACE_PX and abs(v) < SAME_SURFACE_PX):
                    continue
                total = np.float32(0)
                for c in range(channels):
                    half = (near[view, y, x, c] + far[view, y, x, c]) * np.float32(0.5)
                    total += (half - images[view, y, x, c]) ** 2
                energy[view, y, x] = total
                weight[view, y, x] = given[view, y, x]


@kernel
def gather(
    near: Array,
    far: Array,
    near_place: Array,
    far_place: Array,
    images: Array,
    energy: Array,
    weight: Array,
    over_probes: Grid,
    scale: float,
    level: float,
    columns: Array,
    rows: Array,
    meshed: NDArray[np.bool_],
    sums: Grid,
) -> float:
    """Adds curvature and gradient of every pixel to the vertices' `sums` (V, 2); returns the robust
    cost of all. All but the last column and row of vertices are evenly spaced; `level` is photo
    pixels per pixel."""
    views, height, width, channels = images.shape
    last_column, last_row = len(columns) - 2, len(rows) - 2
    left, top = float(columns[0]), float(rows[0])
    across, along = 1 / (columns[1] - left), 1 / (rows[1] - top)
    last_across = 1 / float(columns[last_column + 1] - columns[last_column])
    last_along = 1 / float(rows[last_row + 1] - rows[last_row])
    cost = 0.0
    for view in range(views):
        for y in range(height):
            for x in range(width):
                if weight[view, y, x] == 0:
                    continue
                relative = energy[view, y, x] / scale
                cost += weight[view, y, x] * energy[view, y, x] / (1 + relative)
                robust = weight[view, y, x] / ((1 + relative) ** 2 * scale)
                steep, lean = 0.0, 0.0
                for c in range(channels):
                    one, two = near[view, y, x, c], far[view, y, x, c]
                    slope = (two - one) * over_probes[view]
                    steep += slope * slope
                    lean += slope * ((one + two) * np.float32(0.5) - images[view, y, x, c])
                curvature, gradient = robust * steep, robust * lean
                place_x = (near_place[0, view, y, x] + far_place[0, view, y, x]) * 0.5 + 0.5
                place_y = (near_place[1, view, y, x] + far_place[1, view, y, x]) * 0.5 + 0.5
                photo_x, photo_y = place_x * level - left, place_y * level - top
                column = min(max(int(photo_x * across), 0), last_column)
                row = min(max(int(photo_y * along), 0), last_row)
                right = photo_x + left - columns[column]
                right *= last_across if column == last_column else across
                down = photo_y + top - rows[row]
                down *= last_along if row == last_row else along
                right, down = min(max(right, 0.0), 1.0), min(max(down, 0.0), 1.0)
                first = row * len(columns) + column
                below = first + len(columns)
                a = (1 - down) * (1 - right) if meshed[first] else 0.0
                b = (1 - down) * right if meshed[first + 1] else 0.0
                c0 = down * (1 - right) if meshed[below] else 0.0
                d = down * right if meshed[below + 1] else 0.0
                total = a + b + c0 + d
                if not total > 0:
                    continue
                curvature, gradient = curvature / total, gradient / total
                sums[first, 0] += a * curvature
                sums[first, 1] += a * gradient
                sums[first + 1, 0] += b * curvature
                sums[first + 1, 1] += b * gradient
                sums[below, 0] += c0 * curvature
                sums[below, 1] += c0 * gradient
                sums[below + 1, 0] += d * curvature
                sums[below + 1, 1] += d * gradient
    return cost
