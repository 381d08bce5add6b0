"""A surface from the agreed depth of all views: truncated signed distances on a sparse grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import StageError
from refdepth.fusion.cloud import CACHE_MB, Progress, position_type
from refdepth.fusion.crosscheck import DepthCache, check_view
from refdepth.fusion.settings import FusionSettings
from refdepth.types.camera import pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

_BLOCK_RESOLUTION = 16
_FIRST_BLOCKS = 4096  # the grid grows when it needs more


@dataclass(frozen=True, kw_only=True, eq=False)
class FusedMesh:
    """A triangle mesh in world coordinates, SfM units."""

    vertices: NDArray[np.floating[Any]]
    """Positions (N, 3), float32 or float64 as a cloud's points."""
    normals: NDArray[np.float32]
    """Unit normals (N, 3)."""
    colors: NDArray[np.uint8]
    """RGB (N, 3)."""
    triangles: NDArray[np.int32]
    """Rows of vertices (T, 3)."""


def fuse_mesh(
    scene: Scene,
    load: Callable[[str], DepthMap],
    settings: FusionSettings,
    progress: Progress | None = None,
    *,
    cache_mb: float = CACHE_MB,
) -> FusedMesh:
    """Mesh of the surfaces that neighbouring views agree on (Curless and Levoy 1996, with Open3D's
    VoxelBlockGrid).

    The voxel size is `mesh_voxel_px` pixels at the median distance of the agreed depth in the
    first view that has any. Depth maps of `cache_mb` MiB are kept between views.

    Raises `StageError` when no view's depth is confirmed by another, `InputError` when a depth map
    does not have its photo's size.
    """
    from refdepth.matching.neighbours import select_sources

    cache = DepthCache(load, scene, cache_mb)
    grid: Any = None
    # Open3D's vertices are float32: far from the origin the grid gets one of its own.
    origin, dtype = np.zeros(3), np.float32
    for done, view in enumerate(scene.views):
        sources = [scene[name] for name in select_sources(scene, view, settings.neighbours)]
        checked = check_view(view, sources, cache, settings)
        if checked.mask.any():
            if grid is None:
                spacing = np.median(checked.depth[checked.mask]) / view.camera.mean_focal_px
                voxel = float(spacing) * settings.mesh_voxel_px
                grid = _empty_grid(voxel)
                dtype = position_type(scene, voxel)
                origin = view.center if dtype is np.float64 else origin
            _integrate(grid, view, origin, checked.depth, settings.mesh_truncation_voxels)
        if progress is not None:
            progress(done + 1, len(scene))
    if grid is None:
        raise StageError(
            "no depth is confirmed by a second view, so there is no surface.",
            subject="fuse",
            action="Lower fuse.min_agreeing or give photos with more overlap.",
        )
    mesh = grid.extract_triangle_mesh(settings.mesh_min_weight)
    if len(mesh.vertex.positions) == 0:
        raise StageError(
            "too few views agree to make a surface.",
            subject="fuse",
            action="Lower fuse.mesh_min_weight.",
        )
    mesh.compute_vertex_normals()
    return FusedMesh(
        vertices=(mesh.vertex.positions.numpy() + origin).astype(dtype),
        normals=mesh.vertex.normals.numpy().astype(np.float32),
        colors=np.rint(np.clip(mesh.vertex.colors.numpy(), 0, 1) * 255).astype(np.uint8),
        triangles=mesh.triangle.indices.numpy().astype(np.int32),
    )


def _empty_grid(voxel: float) -> Any:
    import open3d

    core: Any = open3d.core
    geometry: Any = open3d.t.geometry
    return geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(core.float32, core.float32, core.float32),
        attr_channels=((1,), (1,), (3,)),
        voxel_size=voxel,
        block_resolution=_BLOCK_RESOLUTION,
        block_count=_FIRST_BLOCKS,
    )


def _integrate(
    grid: Any,
    view: View,
    origin: NDArray[np.float64],
    depth: NDArray[np.float32],
    truncation: float,
) -> None:
    """Adds a view's depth and photo to the grid, which has its origin at `origin`."""
    import open3d

    core: Any = open3d.core
    image = open3d.t.geometry.Image(core.Tensor(depth))
    color = open3d.t.geometry.Image(core.Tensor(view.load().image))
    # Open3D's pixel centres are whole numbers.
    K = core.Tensor(view.camera.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    pose = core.Tensor(view.cam_from_world @ pose_matrix(np.eye(3), origin))
    limits = (1.0, float(depth.max()) * 1.01, truncation)
    blocks = grid.compute_unique_block_coordinates(image, K, pose, *limits)
    grid.integrate(blocks, image, color, K, K, pose, *limits)
