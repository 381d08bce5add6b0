"""The grid mesh as tensors, on any device: nothing is read back.

Its triangles are always the same in number, so that nobody has to ask: those that `grid_mesh` of
arrays leaves out have one vertex three times, and no renderer draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refdepth.precision import widest_float
from refdepth.refine.mesh.surface import SAME_SURFACE

Tensor = torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorMesh:
    """Triangles over a grid of pixels; vertices row by row, as in `GridMesh`."""

    vertices_px: Tensor
    """Pixel coordinates of the vertices (V, 2); the centre of the first pixel is (0.5, 0.5)."""
    depth: Tensor
    """Depth of the vertices (V,); 0 means unknown."""
    triangles: Tensor
    """Vertex indices (T, 3) int32, two triangles a cell; one vertex three times where there is
    none."""
    meshed: Tensor
    """Vertices that a triangle has (V,) bool."""
    x: Tensor
    """Pixel coordinate of each column of vertices (C,)."""
    y: Tensor
    """Of each row (R,)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of vertices."""
        return len(self.y), len(self.x)


def grid_mesh(depth: Tensor, stride: int, cut_ratio: float) -> TensorMesh:
    """Meshes a depth map (H, W) with a vertex at every `stride`-th pixel centre, cut where depths
    of a triangle differ by more than `cut_ratio`: `geometry.mesh.grid_mesh`."""
    y, x = (_positions(size, stride, depth.device) for size in depth.shape)
    z = depth.index_select(0, y).index_select(1, x)
    z = torch.where(z.isfinite() & (z > 0), z, 0).flatten()
    triangles, kept = _triangles(z, len(y), len(x), cut_ratio)
    # The place behind the last vertex takes what no triangle has.
    meshed = torch.zeros(len(z) + 1, dtype=torch.bool, device=depth.device)
    meshed.scatter_(0, torch.where(kept[:, None], triangles, len(z)).flatten(), True)
    x_px, y_px = x.to(depth.dtype) + 0.5, y.to(depth.dtype) + 0.5
    return TensorMesh(
        vertices_px=torch.stack(torch.meshgrid(x_px, y_px, indexing="xy"), dim=-1).reshape(-1, 2),
        depth=z,
        triangles=torch.where(kept[:, None], triangles, triangles[:, :1]).int(),
        meshed=meshed[:-1],
        x=x_px,
        y=y_px,
    )


def spread_to_pixels(mesh: TensorMesh, correction: Tensor, depth: Tensor) -> Tensor:
    """The vertices' correction of log depth (V,) at every pixel of `depth` (H, W):
    `surface.spread_to_pixels`."""
    moving = mesh.meshed.reshape(mesh.shape)
    log_vertex = torch.where(mesh.meshed, mesh.depth, 1).log().reshape(mesh.shape)
    values = torch.where(mesh.meshed, correction.to(depth.dtype), 0).reshape(mesh.shape)
    top, down = _between(mesh.y, depth.shape[0])
    left, right = _between(mesh.x, depth.shape[1])
    log_pixel = torch.where(depth > 0, depth, 1).log()
    total = torch.zeros_like(log_pixel)
    norm = torch.full_like(log_pixel, 1e-12)
    for row, row_share in ((top, 1 - down), ((top + 1).clamp(max=len(mesh.y) - 1), down)):
        for column, share in ((left, 1 - right), ((left + 1).clamp(max=len(mesh.x) - 1), right)):
            log_there, value, known = (
                part.index_select(0, row).index_select(1, column)
                for part in (log_vertex, values, moving)
            )
            # The floors let a pixel far from all its vertices still follow the nearest.
            likeness = torch.exp(-SAME_SURFACE * (log_there - log_pixel).abs()) + 1e-6
            weight = torch.where(known, (row_share[:, None] * share + 1e-6) * likeness, 0)
            total += weight * value
            norm += weight
    return total / norm


def anchor_points(mesh: TensorMesh, xy: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The triangle's vertices (N, 3) and the barycentric weights (N, 3) of points `xy` (N, 2) of
    the meshed picture of `shape`, all 0 for those off the surface.

    As in `surface.anchor_points`, a point is on the triangle that a rendered picture shows in its
    pixel: the first of those that hold the pixel's centre, edges included. They are looked for in
    the four cells around it.
    """
    rows, columns = mesh.shape
    if rows < 2 or columns < 2:
        none = mesh.triangles.new_zeros((len(xy), 3))
        return none.long(), none.to(mesh.depth.dtype)
    wide = widest_float(xy.device)
    corners_px = mesh.vertices_px.to(wide)
    pixel = torch.stack(
        [xy[:, axis].long().clamp(0, shape[1 - axis] - 1) for axis in (0, 1)], dim=1
    )
    centre = pixel.to(wide) + 0.5
    both = torch.arange(2, device=xy.device)
    across, along = (
        ((centre[:, axis, None] - at[0]) / (at[1] - at[0])).floor().long() - 1 + both
        for axis, at in ((0, mesh.x.to(wide)), (1, mesh.y.to(wide)))
    )
    cell = (
        along.clamp(0, rows - 2)[:, :, None] * (columns - 1) + across.clamp(0, columns - 2)[:, None]
    )
    candidates = 2 * cell.flatten(1)[:, :, None] + both
    index = mesh.triangles[candidates.flatten(1)].long()
    areas, area = _areas(corners_px[index], centre[:, None])
    holds = (areas * area[..., None] >= 0).all(dim=2) & (area != 0)
    order = torch.arange(holds.shape[1], device=xy.device)
    first = torch.where(holds, order, holds.shape[1]).amin(dim=1)
    chosen = first.clamp(max=holds.shape[1] - 1)[:, None, None].expand(-1, 1, 3)
    index = index.gather(1, chosen)[:, 0]
    areas, area = _areas(corners_px[index], xy.to(wide))
    on_surface = (first < holds.shape[1])[:, None]
    return index, torch.where(on_surface, areas / area[:, None], 0).to(mesh.depth.dtype)


def _positions(size: int, stride: int, device: torch.device) -> Tensor:
    """Every `stride`-th pixel of an axis, and the last."""
    count = -(-(size - 1) // stride) + 1
    return (stride * torch.arange(count, device=device)).clamp(max=size - 1)


def _triangles(z: Tensor, rows: int, columns: int, cut_ratio: float) -> tuple[Tensor, Tensor]:
    """Two triangles a cell (T, 3), split along the diagonal across which depth changes less, and
    which of them are surface (T,)."""
    index = torch.arange(rows * columns, device=z.device).reshape(rows, columns)
    top_left, top_right = index[:-1, :-1].flatten(), index[:-1, 1:].flatten()
    bottom_left, bottom_right = index[1:, :-1].flatten(), index[1:, 1:].flatten()
    z = z.to(widest_float(z.device))
    log_z = z.log()
    falling = (log_z[top_left] - log_z[bottom_right]).abs()
    rising = (log_z[top_right] - log_z[bottom_left]).abs()
    # An unknown corner rules out the diagonal through it.
    falling = torch.where(falling.isfinite(), falling, torch.inf)
    rising = torch.where(rising.isfinite(), rising, torch.inf)
    splits_falling = falling <= rising
    triangles = torch.stack(
        [
            top_left,
            bottom_left,
            torch.where(splits_falling, bottom_right, top_right),
            torch.where(splits_falling, top_left, top_right),
            torch.where(splits_falling, bottom_right, bottom_left),
            torch.where(splits_falling, top_right, bottom_right),
        ],
        dim=1,
    ).reshape(-1, 3)
    corners = z[triangles]
    nearest, farthest = corners.amin(dim=1), corners.amax(dim=1)
    return triangles, (nearest > 0) & (farthest <= cut_ratio * nearest)


def _between(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Index of the vertex before each pixel centre, and the fraction of the way to the next."""
    centre = torch.arange(size, dtype=positions.dtype, device=positions.device) + 0.5
    before = torch.searchsorted(positions, centre, right=True) - 1
    after = (before + 1).clamp(max=len(positions) - 1)
    span = positions[after] - positions[before]
    fraction = (centre - positions[before]) / torch.where(span > 0, span, 1)
    return before, fraction


def _areas(corners: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the areas that a point (..., 2) makes with the sides opposite to a triangle's corners
    (..., 3, 2), with sign, and the triangle's own: exact at pixel centres. Their ratios are the
    corners' weights."""
    u, v = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    p = point - corners[..., 0, :]
    whole = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    second = p[..., 0] * v[..., 1] - p[..., 1] * v[..., 0]
    third = u[..., 0] * p[..., 1] - u[..., 1] * p[..., 0]
    return torch.stack([whole - second - third, second, third], dim=-1), whole
