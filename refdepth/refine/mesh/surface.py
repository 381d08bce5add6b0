"""The mesh that gradient steps move, and the way back from its vertices to the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.arrays import put
from refdepth.geometry.grid import WorkGrid, strips
from refdepth.geometry.mesh import GridMesh, grid_mesh
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.settings import MeshedSettings
from refdepth.render import Renderer
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import SparseDepth

SAME_SURFACE = 50.0
"""How fast a vertex loses its say in a pixel with the difference of their log depths: to a third at
2 percent, so that a correction does not leak across depth edges."""


def reduction_of(ref: WorkingView, settings: MeshedSettings) -> int:
    """The whole factor by which the photo and the stride are reduced first."""
    return WorkGrid.for_photo(ref.grid.photo, max_pixels=settings.max_pixels).factor


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """A triangle mesh over the reference picture."""

    pixels: NDArray[np.float32]
    """Where the vertices lie in the reference photo (V, 2)."""
    depth: NDArray[np.float32]
    """Their depth (V,); 0 where nothing is known (such vertices belong to no triangle)."""
    triangles: NDArray[np.int32]
    """Vertex indices (T, 3)."""

    def edges(self) -> NDArray[np.int64]:
        """Every edge of the mesh once (E, 2)."""
        sides = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
        return np.unique(np.sort(sides, axis=1), axis=0)


def surface_of(mesh: GridMesh) -> Surface:
    """A grid mesh as it is."""
    return Surface(pixels=mesh.vertices_px, depth=mesh.depth, triangles=mesh.triangles)


def mesh_depth(
    depth: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    *,
    stride: int,
    cut_ratio: float,
) -> GridMesh:
    """The grid mesh of `depth` (H, W) without what `mask` (H, W) leaves out."""
    usable = depth if mask is None else np.where(mask, depth, np.float32(0))
    return grid_mesh(usable, stride, cut_ratio)


def decimate(surface: Surface, camera: PinholeCamera, share: float) -> Surface:
    """The surface with about `share` of its triangles, by quadric decimation (Open3D)."""
    import open3d as o3d

    points = camera.unproject(surface.depth, surface.pixels)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(points), o3d.utility.Vector3iVector(surface.triangles)
    )
    mesh.remove_unreferenced_vertices()
    fewer = mesh.simplify_quadric_decimation(max(1, round(share * len(surface.triangles))))
    vertices = np.asarray(fewer.vertices)
    pixels, depth = camera.project(vertices)
    return Surface(
        pixels=pixels.astype(np.float32),
        depth=depth.astype(np.float32),
        triangles=np.ascontiguousarray(np.asarray(fewer.triangles), dtype=np.int32),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PointAnchors:
    """SfM points as weighted sums of the vertices of the triangle they lie on."""

    index: NDArray[np.int64]
    """Vertices of each point's triangle (N, 3)."""
    weight: NDArray[np.float32]
    """Barycentric weights in the picture (N, 3)."""
    row: NDArray[np.int64]
    """Which of the given points these are (N,); points off the surface are left out."""


def anchor_points(
    surface: Surface, xy: NDArray[np.float64], shape: tuple[int, int], renderer: Renderer
) -> PointAnchors:
    """Finds the triangles under the pixels `xy` (N, 2) of the reference picture of `shape`."""
    flat = np.concatenate([surface.pixels, np.ones_like(surface.pixels[:, :1])], axis=1)
    seen = renderer.visibility(
        put(flat, renderer.device)[None],
        put(surface.triangles, renderer.device),
        *shape,
    )
    ids = seen.triangle_id[0].cpu().numpy()
    x = np.clip(xy[:, 0].astype(np.int64), 0, shape[1] - 1)
    y = np.clip(xy[:, 1].astype(np.int64), 0, shape[0] - 1)
    triangle = ids[y, x].astype(np.int64) - 1
    row = np.flatnonzero(triangle >= 0)
    index = surface.triangles[triangle[row]].astype(np.int64)
    corner = surface.pixels[index].astype(np.float64)
    u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    p = xy[row] - corner[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    second = (p[:, 0] * v[:, 1] - p[:, 1] * v[:, 0]) / area
    third = (u[:, 0] * p[:, 1] - u[:, 1] * p[:, 0]) / area
    weight = np.stack([1 - second - third, second, third], axis=1)
    return PointAnchors(index=index, weight=weight.astype(np.float32), row=row)


def anchor_on_depth(
    surface: Surface, depth: NDArray[np.float32], sparse: SparseDepth, renderer: Renderer
) -> tuple[PointAnchors, NDArray[np.float64], NDArray[np.float64]]:
    """The SfM points on the surface, the start `depth` (H, W) at their pixels, and their measured
    depth."""
    height, width = depth.shape
    anchors = anchor_points(surface, sparse.xy, depth.shape, renderer)
    x = np.clip(sparse.xy[anchors.row, 0].astype(np.int64), 0, width - 1)
    y = np.clip(sparse.xy[anchors.row, 1].astype(np.int64), 0, height - 1)
    start = depth[y, x].astype(np.float64)
    known = start > 0
    anchors = PointAnchors(
        index=anchors.index[known], weight=anchors.weight[known], row=anchors.row[known]
    )
    return anchors, start[known], sparse.depth[anchors.row]


def spread_to_pixels(
    mesh: GridMesh, correction: NDArray[np.float32], depth: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The vertices' correction of log depth (V,) at every pixel of `depth` (H, W): bilinear between
    the four vertices around it, where those at a similar depth count most. 0 where none of them
    belongs to a triangle."""
    rows = mesh.vertices_px[:: mesh.columns, 1].astype(np.float64)
    columns = mesh.vertices_px[: mesh.columns, 0].astype(np.float64)
    grid = (mesh.rows, mesh.columns)
    part = np.zeros(len(mesh.depth), np.float32)
    part[np.unique(mesh.triangles)] = 1
    moving = part.reshape(grid)
    with np.errstate(divide="ignore"):
        log_vertex = np.where(moving > 0, np.log(mesh.depth.reshape(grid)), 0)
    values = correction.reshape(grid)
    first, down = _between(rows, depth.shape[0])
    left, right = _between(columns, depth.shape[1])
    out = np.empty(depth.shape, np.float32)
    for some in strips(len(depth)):
        log_pixel = np.log(np.where(depth[some] > 0, depth[some], 1))
        total = np.zeros_like(log_pixel)
        norm = np.full_like(total, 1e-12)
        top, below = first[some], down[some]
        for row, row_share in ((top, 1 - below), (np.minimum(top + 1, grid[0] - 1), below)):
            of_vertices = [part[row] for part in (log_vertex, moving, values)]
            for column, share in ((left, 1 - right), (np.minimum(left + 1, grid[1] - 1), right)):
                gap, known, value = (np.take(part, column, axis=1) for part in of_vertices)
                gap -= log_pixel
                np.abs(gap, out=gap)
                gap *= -SAME_SURFACE
                likeness = np.exp(gap, out=gap)
                likeness += 1e-6  # a pixel far from all its vertices still follows the nearest
                weight = row_share[:, None] * share
                weight += 1e-6
                weight *= likeness
                weight *= known
                norm += weight
                weight *= value
                total += weight
        out[some] = total / norm
    return out


def _between(positions: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray]:
    """Index of the vertex before each pixel centre, and the fraction of the way to the next."""
    centre = np.arange(size) + 0.5
    before = np.clip(np.searchsorted(positions, centre, side="right") - 1, 0, len(positions) - 1)
    after = np.minimum(before + 1, len(positions) - 1)
    span = positions[after] - positions[before]
    fraction = np.where(span > 0, (centre - positions[before]) / np.where(span > 0, span, 1), 0)
    return before, fraction.astype(np.float32)


def rendered_change(
    start: torch.Tensor, moved: torch.Tensor, depth: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Change of log depth (H, W) between two depth maps of the reference picture, rendered from the
    mesh before and after. Pixels that one of them does not cover follow the nearest that both do.
    """
    from scipy.ndimage import distance_transform_edt

    covered = ((start > 0) & (moved > 0)).cpu().numpy()
    if not covered.any():
        return np.zeros_like(depth)
    ratio = torch.where(start > 0, moved / start.clamp_min(1e-30), 1).cpu().numpy()
    change = np.where(covered, np.log(np.where(covered, ratio, 1)), 0).astype(np.float32)
    y, x = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.where(depth > 0, change[y, x], 0).astype(np.float32)
