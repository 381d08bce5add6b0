"""What two renderings of the mesh, moved to either side, say about its vertices.

Half their sum is the picture, their difference its slope with respect to log depth, pixel by pixel.
Each pixel shows a place of the reference photo, and the mesh is a grid over that photo: what the
pixel says goes to the four vertices around the place, bilinearly, those without triangles left out.
That is the adjoint of interpolation over the mesh but for the diagonal inside a cell, and needs no
rasterisation. In loops for the CPU and in tensor operations for other devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.compiled import kernel
from refdepth.geometry.mesh import GridMesh
from refdepth.refine.mesh.appearance import Level
from refdepth.render.interface import RenderOutput

Array = NDArray[Any]
Grid = NDArray[np.float64]

SAME_SURFACE_PX = 4.0
"""What a pixel shows of either picture lies no further apart in the reference, in pixels of the
level: else it is two surfaces, and their difference no slope."""
OUTLIER = 1.5
"""Residual energy, in medians over all pixels, at which a pixel keeps a quarter of its weight."""
SAMPLED = 8
"""The median is taken over every so many pixels."""
LEAST_SCALE = 1e-8
INSIDE = 0.999
"""Of the texture's last channel: where the reference may be used."""


class Photometry:
    """Gauss-Newton sums of the photometric error at the vertices of a grid mesh."""

    def __init__(self, mesh: GridMesh, device: torch.device) -> None:
        xy = mesh.vertices_px.reshape(mesh.rows, mesh.columns, 2)
        self._x = np.ascontiguousarray(xy[0, :, 0])
        self._y = np.ascontiguousarray(xy[:, 0, 1])
        self.meshed = np.zeros(len(mesh.depth), np.bool_)
        """Vertices that a triangle has (V,)."""
        self.meshed[mesh.triangles] = True
        self._device = device

    def sums(
        self, near: RenderOutput, far: RenderOutput, level: Level, probe: torch.Tensor
    ) -> tuple[Grid, Grid, float]:
        """Diagonal of the Gauss-Newton matrix (V,), gradient (V,), and the robust energy per pixel.

        `near` and `far` show the mesh with its log depth less and more by `probe` (S,). Residuals
        count by Geman-McClure: weight (1 + e)^-2 for the cost e / (1 + e), e = energy / scale.
        """
        if self._device.type == "cpu":
            return self._on_cpu(near, far, level, probe)
        return self._on_device(near, far, level, probe)

    def _on_cpu(
        self, near: RenderOutput, far: RenderOutput, level: Level, probe: torch.Tensor
    ) -> tuple[Grid, Grid, float]:
        pictures = [one.color.numpy() for one in (near, far)]
        places = [one.place.numpy() for one in (near, far)]
        shape = level.weight.shape
        energy, weight = np.empty(shape, np.float32), np.empty(shape, np.float32)
        images = level.images.numpy()
        compare(*pictures, *places, images, level.weight.numpy(), energy, weight)
        known = energy[weight > 0]
        sums = np.zeros((len(self.meshed), 2))
        if not len(known):
            return sums[:, 0].copy(), sums[:, 1].copy(), 0.0
        scale = OUTLIER * max(float(_lower_median(known[::SAMPLED])), LEAST_SCALE)
        cost = gather(
            *pictures,
            *places,
            images,
            energy,
            weight,
            np.reciprocal(2 * probe.double().numpy()),
            scale,
            float(level.scale),
            self._x,
            self._y,
            self.meshed,
            sums,
        )
        return sums[:, 0].copy(), sums[:, 1].copy(), cost / float(weight.sum(dtype=np.float64))

    def _on_device(
        self, near: RenderOutput, far: RenderOutput, level: Level, probe: torch.Tensor
    ) -> tuple[Grid, Grid, float]:
        """The same in tensor operations; on CUDA the order of the sums is not fixed."""
        apart = (far.place - near.place).abs().amax(dim=0)
        inside = (near.color[..., -1] > INSIDE) & (far.color[..., -1] > INSIDE)
        weight = level.weight * (inside & (apart < SAME_SURFACE_PX))
        slope = (far.color - near.color)[..., :-1] / (2 * probe[:, None, None, None])
        residual = (far.color + near.color)[..., :-1] / 2 - level.images
        energy = residual.square().sum(dim=-1)
        known = energy[weight > 0]
        if not len(known):
            nothing = np.zeros(len(self.meshed))
            return nothing, nothing.copy(), 0.0
        scale = OUTLIER * known[::SAMPLED].median().clamp_min(LEAST_SCALE)
        relative = energy / scale
        robust = weight / ((1 + relative).square() * scale)
        said = weight > 0
        values = torch.stack(
            [robust * slope.square().sum(dim=-1), robust * (slope * residual).sum(dim=-1)]
        )[:, said].double()
        corners, shares = self._corners(((near.place + far.place) / 2)[:, said], level.scale)
        sums = values.new_zeros((2, len(self.meshed)))
        for row, value in zip(sums, values, strict=True):
            row.index_add_(0, corners.flatten(), (shares * value).flatten())
        cost = float((weight * energy / (1 + relative)).sum() / weight.sum())
        curvature, gradient = sums.cpu().numpy()
        return curvature, gradient, cost

    def _corners(self, place: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The vertices around places (2, P) of a level, and the share of each (4, P)."""
        column, right = _cells(place[0], scale, self._x)
        row, down = _cells(place[1], scale, self._y)
        first = row * len(self._x) + column
        corners = torch.stack([first, first + 1, first + len(self._x), first + len(self._x) + 1])
        shares = torch.stack(
            [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
        )
        shares = shares * torch.from_numpy(self.meshed).to(place.device)[corners]
        total = shares.sum(dim=0)
        return corners, torch.where(total > 0, shares / total, 0)


def _lower_median(values: Array) -> np.float32:
    """The lower of the middle two of an even number, as torch's."""
    middle = (len(values) - 1) // 2
    found: np.float32 = np.partition(values, middle)[middle]
    return found


def _cells(place: torch.Tensor, scale: int, vertices: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """The cell along one axis that holds each place, and where in it, from 0 to 1."""
    photo = (place.double() + 0.5) * scale
    at = torch.from_numpy(vertices).to(photo)
    cell = (torch.searchsorted(at, photo, right=True) - 1).clamp(0, len(vertices) - 2)
    return cell, ((photo - at[cell]) / (at[cell + 1] - at[cell])).clamp(0, 1)


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
