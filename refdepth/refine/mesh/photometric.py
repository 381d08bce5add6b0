"""What two renderings of the mesh, moved to either side, say about its vertices.

Half their sum is the picture, their difference its slope with respect to log depth, pixel by pixel.
Each pixel shows a place of the reference photo, and the mesh is a grid over that photo: what the
pixel says goes to the four vertices around the place, bilinearly, those without triangles left out.
That is the adjoint of interpolation over the mesh but for the diagonal inside a cell, and needs no
rasterisation. In loops for the CPU; for other devices in tensor operations (`torch_photometric`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.geometry.mesh import GridMesh
from refdepth.refine.mesh import torch_photometric
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric_kernels import (
    LEAST_SCALE,
    OUTLIER,
    SAMPLED,
    compare,
    gather,
)
from refdepth.render.interface import RenderOutput

Array = NDArray[Any]
Grid = NDArray[np.float64]


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
        self._on = [torch.from_numpy(a).to(device) for a in (self._x, self._y, self.meshed)]

    def sums(
        self, near: RenderOutput, far: RenderOutput, level: Level, probe: torch.Tensor
    ) -> tuple[Grid, Grid, float] | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Diagonal of the Gauss-Newton matrix (V,), gradient (V,), and the robust energy per pixel.

        `near` and `far` show the mesh with its log depth less and more by `probe` (S,). Residuals
        count by Geman-McClure: weight (1 + e)^-2 for the cost e / (1 + e), e = energy / scale.
        Arrays and a number on the CPU; on another device tensors, which nobody waited for.
        """
        if self._device.type == "cpu":
            return self._on_cpu(near, far, level, probe)
        return torch_photometric.sums(near, far, level, probe, *self._on)

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


def _lower_median(values: Array) -> np.float32:
    """The lower of the middle two of an even number, as torch's."""
    middle = (len(values) - 1) // 2
    found: np.float32 = np.partition(values, middle)[middle]
    return found
