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

from refdepth.geometry.mesh import GridMesh
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric_kernels import INSIDE, SAME_SURFACE_PX, compare, gather
from refdepth.render.interface import RenderOutput

Array = NDArray[Any]
Grid = NDArray[np.float64]

OUTLIER = 1.5
"""Residual energy, in medians over all pixels, at which a pixel keeps a quarter of its weight."""
SAMPLED = 8
"""The median is taken over every so many pixels."""
LEAST_SCALE = 1e-8


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
