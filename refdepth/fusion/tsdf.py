"""A surface from the agreed depth of all views: truncated signed distances on a sparse grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import StageError
from refdepth.fusion.cloud import Progress
from refdepth.fusion.settings import MeshSettings
from refdepth.fusion.views import (
    load_checked,
    median_center,
    position_type,
    reduced_depth,
    reduced_scene,
    typical_spacing,
)
from refdepth.io.images import load_rgb
from refdepth.types.camera import pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.mesh import TriangleMesh
from refdepth.types.scene import Scene, View, in_unit_range

_BLOCK_RESOLUTION = 16
_FIRST_BLOCKS = 4096  # the grid grows when it needs more
_NO_SURFACE = "No block is touched"
"""How Open3D says that it has found no depth in a picture."""

FRAGMENT_SHARE = 0.001
"""Connected pieces with a smaller share of the triangles are noise."""


def fuse_mesh(
    scene: Scene,
    load: Callable[[str], DepthMap],
    settings: MeshSettings | None = None,
    progress: Progress | None = None,
) -> TriangleMesh:
    """Mesh of depth that views agree on (Curless and Levoy 1996, with Open3D's VoxelBlockGrid).

    `load` gives a view's agreed depth, as `check_view` finds it and `fuse` hands it to `on_view`;
    nothing is checked against other views here. Memory holds one view beside the grid.

    Raises `StageError` when there is no depth or too few views measure the same place, `InputError`
    when a depth map does not have its photo's size.
    """
    settings = settings or MeshSettings()
    load = reduced_depth(scene, settings.max_pixels, load)
    scene = reduced_scene(scene, settings.max_pixels)

    def agreed(name: str) -> DepthMap:
        return load_checked(scene, load, name)

    voxel = settings.voxel_px * typical_spacing(scene, agreed)
    dtype = position_type(scene, voxel)
    # Open3D's vertices are float32: far from the origin the grid gets one of its own.
    origin = median_center(scene) if dtype is np.float64 else np.zeros(3)
    grid, measured = _empty_grid(voxel), False
    for done, view in enumerate(scene.views):
        depth = agreed(view.name).depth
        if depth.any():
            measured |= _integrate(grid, view, origin, depth, settings.truncation_voxels)
        if progress is not None:
            progress(done + 1, len(scene))
    if not measured:
        raise StageError(
            "no depth is confirmed by a second view, so there is no surface.",
            subject="mesh",
            action="Lower fuse.min_agreeing or give photos with more overlap.",
        )
    mesh = grid.extract_triangle_mesh(settings.min_weight)
    if len(mesh.vertex.positions) == 0:
        raise StageError(
            "too few views agree to make a surface.",
            subject="mesh",
            action="Lower mesh.min_weight.",
        )
    mesh.compute_vertex_normals()
    return TriangleMesh(
        vertices=(mesh.vertex.positions.numpy() + origin).astype(dtype),
        normals=mesh.vertex.normals.numpy().astype(np.float32),
        colors=np.rint(np.clip(mesh.vertex.colors.numpy(), 0, 1) * 255).astype(np.uint8),
        triangles=mesh.triangle.indices.numpy().astype(np.int32),
    )


def without_fragments(mesh: TriangleMesh, *, min_share: float = FRAGMENT_SHARE) -> TriangleMesh:
    """The mesh without connected pieces that hold less than `min_share` of its triangles, and
    without vertices that no triangle uses. The largest piece always stays."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    triangles, count = mesh.triangles, len(mesh.vertices)
    starts, ends = triangles[:, [0, 1]].ravel(), triangles[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(count, count))
    _, piece = connected_components(links, directed=False)
    size = np.bincount(piece[triangles[:, 0]], minlength=1)
    kept = size >= min(max(min_share * len(triangles), 1), size.max(initial=0))
    triangles = triangles[kept[piece[triangles[:, 0]]]]
    used = np.zeros(count, bool)
    used[triangles] = True
    row = np.cumsum(used, dtype=np.int32) - 1
    return TriangleMesh(
        vertices=mesh.vertices[used],
        normals=mesh.normals[used],
        colors=mesh.colors[used],
        triangles=row[triangles],
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
) -> bool:
    """Adds a view's depth and photo to the grid, which has its origin at `origin`; False where the
    view knows too little for that: Open3D looks for surfaces at every fourth pixel."""
    import open3d

    core: Any = open3d.core
    image = open3d.t.geometry.Image(core.Tensor(depth))
    rgb = in_unit_range(load_rgb(view))
    color = open3d.t.geometry.Image(core.Tensor(rgb))  # of the depth's type
    # Open3D's pixel centres are whole numbers.
    K = core.Tensor(view.camera.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    pose = core.Tensor(view.cam_from_world @ pose_matrix(np.eye(3), origin))
    limits = (1.0, float(depth.max()) * 1.01, truncation)
    try:
        blocks = grid.compute_unique_block_coordinates(image, K, pose, *limits)
    except RuntimeError as error:
        if _NO_SURFACE not in str(error):
            raise
        return False
    grid.integrate(blocks, image, color, K, K, pose, *limits)
    return True
