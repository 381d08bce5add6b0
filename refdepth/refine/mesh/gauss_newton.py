"""Second-order steps on the rendered mesh.

Each step renders the mesh twice, moved a fraction of a pixel to either side along its rays: what
that says about the vertices (`photometric`) is a diagonal Gauss-Newton matrix and a gradient.
Together with the stiffness of the correction that is one sparse system per step. Its solution
carries what textured parts know to plain ones at once, where first-order steps would crawl.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from refdepth.geometry.mesh import GridMesh
from refdepth.matching.propagation import GridSystem
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric import Photometry
from refdepth.refine.mesh.settings import SurfaceSettings
from refdepth.refine.mesh.surface import PointAnchors
from refdepth.render import Renderer

Grid = NDArray[np.float64]

PROBE_PX = 0.5
"""How far the mesh is moved to either side to see the slope: inside the reach of bilinear sampling.
"""
LARGEST_STEP_PX = 1.0
"""A step moves no vertex further in the sources, in pixels of the level: the slope is local."""
TEXTURELESS = 1e-3
"""Added to the matrix so that vertices that nothing says anything about stay."""
POINT_OUTLIER = 2.0
"""SfM residual, in standard deviations, at which a point keeps half its weight."""
LEAST_POINT_ERROR_PX = 0.5
"""No SfM point is taken to be better located than this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointTargets:
    """What SfM points say about the correction of log depth."""

    anchors: PointAnchors
    change: NDArray[np.float64]
    """The correction that each anchored point asks for (N,)."""
    error_px: NDArray[np.float64]
    """Their mean reprojection errors (N,)."""


class GaussNewton:
    """Steps on the correction of log depth of a grid mesh, one level of the pyramid at a time."""

    def __init__(
        self, mesh: GridMesh, points: PointTargets, settings: SurfaceSettings, renderer: Renderer
    ) -> None:
        self.settings = settings
        self.renderer = renderer
        self.points = points
        device = renderer.device
        self.shape = (mesh.rows, mesh.columns)
        self.triangles = torch.from_numpy(mesh.triangles).to(device)
        self.pixels = torch.from_numpy(mesh.vertices_px).to(device)
        flat = functional.pad(self.pixels, (0, 1), value=1.0)
        self.start = flat * torch.from_numpy(mesh.depth).to(device)[:, None]
        self.links = _links(mesh, settings)
        self.photometry = Photometry(mesh, device)
        self.meshed = torch.from_numpy(self.photometry.meshed).to(device)
        self.cell_px = float(mesh.vertices_px[1, 0] - mesh.vertices_px[0, 0])

    def step(self, level: Level, correction: Grid) -> tuple[Grid, float]:
        """The correction (V,) after one step, and the robust energy per pixel before it."""
        moved = self.start * torch.from_numpy(np.exp(correction)).to(self.start)[:, None]
        turned = torch.einsum("sij,vj->svi", level.A, moved)
        parallax = self._parallax(level, turned)
        curvature, slope, energy = self._photometric(level, turned, parallax)
        # Mean over the photo's pixels in a cell and over sources, whatever level and stride.
        share = (level.scale / self.cell_px) ** 2 / len(level.A)
        matrix = curvature * share + TEXTURELESS
        rhs = -slope * share
        full_parallax = float(parallax.median()) * level.scale
        for row, value in zip((matrix, rhs), self._sparse(correction, full_parallax), strict=True):
            row += value
        # In pixels of parallax stiffness means the same in every picture, whatever its size.
        links = [full_parallax**2 * link for link in self.links]
        rhs -= _stiffness(links, correction.reshape(self.shape)).ravel()
        system = GridSystem(matrix.reshape(self.shape), links[0], links[1])
        change = system.solve(rhs.reshape(self.shape))
        limit = LARGEST_STEP_PX / max(float(parallax.median()), 1e-6)
        return correction + np.clip(change.ravel(), -limit, limit), energy

    def _parallax(self, level: Level, turned: torch.Tensor) -> torch.Tensor:
        """How many pixels of the level a vertex moves in each source for a change of log depth by
        1: the median over the vertices it sees (S,)."""
        q = turned + level.b[:, None]
        w = q[..., 2:].clamp_min(1e-12)
        xy = q[..., :2] / w
        motion = torch.hypot(*((turned[..., :2] - xy * turned[..., 2:]) / w).unbind(dim=-1))
        size = xy.new_tensor([level.size[1], level.size[0]])
        seen = self.meshed & (q[..., 2] > 0) & ((xy > 0) & (xy < size)).all(dim=-1)
        median = torch.where(seen, motion, torch.nan).nanmedian(dim=1).values
        return median.nan_to_num(0.0)

    @torch.no_grad()
    def _photometric(
        self, level: Level, turned: torch.Tensor, parallax: torch.Tensor
    ) -> tuple[Grid, Grid, float]:
        """Diagonal of the Gauss-Newton matrix (V,), gradient (V,), and the energy per pixel."""
        height, width = level.size
        probe = (PROBE_PX / parallax.clamp_min(1e-6)).clamp(1e-4, 0.05)[:, None, None]
        uv = self.pixels / level.scale
        near, far = (
            self.renderer.render(
                turned * torch.exp(sign * probe) + level.b[:, None],
                self.triangles,
                uv=uv,
                texture=level.texture,
                height=height,
                width=width,
            )
            for sign in (-1, 1)
        )
        found = self.photometry.sums(near, far, level, probe[:, 0, 0])
        curvature, gradient, energy = (
            one.cpu().numpy() if isinstance(one, torch.Tensor) else one for one in found
        )
        return curvature, gradient, float(energy)

    def _sparse(self, correction: Grid, parallax_px: float) -> tuple[Grid, Grid]:
        """What the SfM points add to the matrix' diagonal and to the right side (V,).

        A point's depth is as sure as its reprojection error over the parallax.
        """
        anchors = self.points.anchors
        now = (anchors.weight * correction[anchors.index]).sum(axis=1)
        residual = self.points.change - now
        deviation = np.maximum(self.points.error_px, LEAST_POINT_ERROR_PX) / max(parallax_px, 1e-6)
        pull = self.settings.point_weight / deviation**2
        pull /= 1 + (residual / (POINT_OUTLIER * deviation)) ** 2
        shares = (anchors.weight * pull[:, None]).ravel()
        where = anchors.index.ravel()
        count = len(correction)
        return (
            np.bincount(where, shares, count).astype(np.float64),
            np.bincount(where, shares * np.repeat(residual, 3), count).astype(np.float64),
        )


def _stiffness(links: list[Grid], correction: Grid) -> Grid:
    """The Laplacian of the links times the correction (R, C)."""
    result = np.zeros_like(correction)
    for axis, link in zip((1, 0), links, strict=True):
        pull = link * np.diff(correction, axis=axis)
        padding = [(1, 1) if axis == other else (0, 0) for other in (0, 1)]
        result -= np.diff(np.pad(pull, padding), axis=axis)
    return result


def _links(mesh: GridMesh, settings: SurfaceSettings) -> tuple[Grid, Grid]:
    """Stiffness between neighbouring vertices: (R, C - 1) and (R - 1, C); weak across depth edges,
    none to vertices without depth."""
    depth = mesh.depth.reshape(mesh.rows, mesh.columns).astype(np.float64)
    known = depth > 0
    log_depth = np.log(np.where(known, depth, 1))
    across, down = (
        settings.smoothness
        * np.where(
            pair, np.exp(-settings.depth_edge * np.abs(np.diff(log_depth, axis=axis))) + 1e-4, 0
        )
        for axis, pair in ((1, known[:, 1:] & known[:, :-1]), (0, known[1:] & known[:-1]))
    )
    return across, down
