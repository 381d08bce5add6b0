"""Second-order steps on the rendered mesh.

Each step renders the mesh twice, moved a fraction of a pixel to either side along its rays: what
that says about the vertices (`photometric`) is a diagonal Gauss-Newton matrix and a gradient.
Together with the stiffness of the correction that is one sparse system per step. Its solution
carries what textured parts know to plain ones at once, where first-order steps would crawl.

Written once for arrays, with compiled loops and the CPU renderer, and for tensors, of which nothing
is read back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from refdepth.arrays import Array, as_tensor, at_least, is_tensor, namespace
from refdepth.geometry.mesh import GridMesh
from refdepth.matching.laplacian import laplacian
from refdepth.matching.propagation import solve
from refdepth.precision import OrderlessSums, widest_float
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric import Photometry
from refdepth.refine.mesh.settings import SurfaceSettings
from refdepth.refine.mesh.torch_mesh import TensorMesh
from refdepth.refine.mesh.torch_photometric import TensorPhotometry
from refdepth.render import Renderer, RenderOutput

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
    """What SfM points on the mesh say about the correction of log depth."""

    index: Array
    """Vertices of each point's triangle (N, 3)."""
    weight: Array
    """Barycentric weights of these (N, 3); all 0 for a point that says nothing."""
    change: Array
    """The correction that each point asks for (N,) float64."""
    error_px: Array
    """Their mean reprojection errors (N,) float64."""


class GaussNewton:
    """Steps on the correction of log depth of a grid mesh, one level of the pyramid at a time."""

    def __init__(
        self,
        mesh: GridMesh | TensorMesh,
        points: PointTargets,
        settings: SurfaceSettings,
        renderer: Renderer,
    ) -> None:
        self.settings = settings
        self.renderer = renderer
        self.points = points
        device = renderer.device
        self.shape = mesh.shape
        self.cell_px = mesh.cell_px
        self.triangles = as_tensor(mesh.triangles, device)
        self.pixels = as_tensor(mesh.vertices_px, device)
        flat = functional.pad(self.pixels, (0, 1), value=1.0)
        self.start = flat * as_tensor(mesh.depth, device)[:, None]
        self.links = _links(_wide(mesh.depth).reshape(mesh.shape), settings)
        if isinstance(mesh, TensorMesh):
            self.photometry: Photometry | TensorPhotometry = TensorPhotometry(mesh)
        else:
            self.photometry = Photometry(mesh)
        self.meshed = as_tensor(self.photometry.meshed, device)
        self.unmoved: Array = 0 * _wide(mesh.depth)
        """The correction (V,) to begin with."""

    def step(self, level: Level, correction: Array) -> tuple[Array, Array | float]:
        """The correction (V,) after one step, and the robust energy per pixel before it."""
        xp = namespace(correction)
        moved = (
            self.start * as_tensor(xp.exp(correction), self.start.device).to(self.start)[:, None]
        )
        turned = torch.einsum("sij,vj->svi", level.A, moved)
        parallax = self._parallax(level, turned)
        curvature, slope, energy = self._photometric(level, turned, parallax)
        # Mean over the photo's pixels in a cell and over sources, whatever level and stride.
        share = (level.scale / self.cell_px) ** 2 / len(level.A)
        matrix = curvature * share + TEXTURELESS
        rhs = -slope * share
        typical: Array = parallax.median()
        typical = _wide(typical) if is_tensor(correction) else float(typical)
        full_parallax = typical * level.scale
        for row, value in zip((matrix, rhs), self._sparse(correction, full_parallax), strict=True):
            row += value
        # In pixels of parallax stiffness means the same in every picture, whatever its size.
        across, down = (full_parallax**2 * link for link in self.links)
        rhs -= laplacian(across, down, correction.reshape(self.shape)).reshape(-1)
        grid = matrix.reshape(self.shape), across, down, rhs.reshape(self.shape)
        change = solve(*grid).reshape(-1)
        limit = LARGEST_STEP_PX / at_least(typical, 1e-6)
        return correction + xp.clip(change, -limit, limit), energy

    def _parallax(self, level: Level, turned: torch.Tensor) -> torch.Tensor:
        """How many pixels of the level a vertex moves in each source for a change of log depth by
        1: the median over the vertices it sees (S,)."""
        q = turned + level.b[:, None]
        w = q[..., 2:].clamp_min(1e-12)
        xy = q[..., :2] / w
        motion = torch.hypot(*((turned[..., :2] - xy * turned[..., 2:]) / w).unbind(dim=-1))
        height, width = level.size
        inside = (xy > 0).all(dim=-1) & (xy[..., 0] < width) & (xy[..., 1] < height)
        seen = self.meshed & (q[..., 2] > 0) & inside
        median = torch.where(seen, motion, torch.nan).nanmedian(dim=1).values
        return median.nan_to_num(0.0)

    @torch.no_grad()
    def _photometric(
        self, level: Level, turned: torch.Tensor, parallax: torch.Tensor
    ) -> tuple[Array, Array, Array | float]:
        """Diagonal of the Gauss-Newton matrix (V,), gradient (V,), and the energy per pixel."""
        height, width = level.size
        probe = (PROBE_PX / parallax.clamp_min(1e-6)).clamp(1e-4, 0.05)[:, None, None]
        render = partial(
            self.renderer.render,
            triangles=self.triangles,
            uv=self.pixels / level.scale,
            texture=level.texture,
            height=height,
            width=width,
        )
        moved = [turned * torch.exp(sign * probe) + level.b[:, None] for sign in (-1, 1)]
        if isinstance(self.photometry, TensorPhotometry):  # few calls, and waits of the renderer
            near, far = _halves(render(torch.cat(moved)))
        else:
            near, far = map(render, moved)
        return self.photometry.sums(near, far, level, probe[:, 0, 0])

    def _sparse(self, correction: Array, parallax_px: Array | float) -> tuple[Array, Array]:
        """What the SfM points add to the matrix' diagonal and to the right side (V,).

        A point's depth is as sure as its reprojection error over the parallax.
        """
        points, xp = self.points, namespace(correction)
        now = xp.sum(points.weight * correction[points.index], axis=1)
        residual = points.change - now
        deviation = at_least(points.error_px, LEAST_POINT_ERROR_PX)
        deviation = deviation / at_least(parallax_px, 1e-6)
        pull = self.settings.point_weight / deviation**2
        pull = pull / (1 + (residual / (POINT_OUTLIER * deviation)) ** 2)
        shares = points.weight * pull[:, None]
        at = points.index.reshape(-1)
        if not is_tensor(correction):
            pulled = (shares * residual[:, None]).reshape(-1)
            one, other = (np.bincount(at, x, len(correction)) for x in (shares.reshape(-1), pulled))
            return one.astype(np.float64), other.astype(np.float64)
        both = torch.stack([shares, shares * residual[:, None]]).reshape(2, -1)
        matrix, rhs = _summed(both, at, len(correction))
        return matrix, rhs


def _halves(both: RenderOutput) -> Iterator[RenderOutput]:
    """What was rendered as one batch."""
    views = len(both.depth) // 2
    for some in (slice(views), slice(views, None)):
        yield RenderOutput(
            color=both.color[some],
            place=both.place[:, some],
            triangle_id=both.triangle_id[some],
            depth=both.depth[some],
        )


def _wide(values: Array) -> Array:
    if is_tensor(values):
        return values.to(widest_float(values.device))
    return values.astype(np.float64)


def _summed(values: torch.Tensor, at: torch.Tensor, count: int) -> torch.Tensor:
    """Sums (K, V) of `values` (K, N) at the vertices `at` (N,), each row in units of its own."""
    rows = []
    for row in values:
        if not len(row):
            return values.new_zeros((len(values), count))
        sums = OrderlessSums((count,), row.abs().amax(), count=len(row))
        sums.add(at, row.to(sums.dtype))
        rows.append(sums.total)
    return torch.stack(rows)


def _links(depth: Array, settings: SurfaceSettings) -> tuple[Array, Array]:
    """Stiffness between neighbouring vertices of `depth` (R, C): (R, C - 1) and (R - 1, C); weak
    across depth edges, none to vertices without depth."""
    xp = namespace(depth)
    known = depth > 0
    log_depth = xp.log(xp.where(known, depth, 1.0))
    across, down = (
        settings.smoothness
        * xp.where(
            pair,
            xp.exp(-settings.depth_edge * xp.abs(xp.diff(log_depth, axis=axis))) + 1e-4,
            0.0,
        )
        for axis, pair in ((1, known[:, 1:] & known[:, :-1]), (0, known[1:] & known[:-1]))
    )
    return across, down
