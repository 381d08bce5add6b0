"""What fusion takes from the views: checked depth, colours, the scene's place and its typical
ground sampling distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.voxels import Lattice
from refdepth.geometry.grid import WorkGrid
from refdepth.io.images import load_mask
from refdepth.types.camera import PinholeCamera
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

ROUNDING_VOXELS = 0.01
"""Positions may be rounded by this part of a voxel."""


def reduced_scene(scene: Scene, max_pixels: int) -> Scene:
    """The scene with the views' cameras, and what of their photos is read, reduced by the least
    whole factor that leaves at most `max_pixels`."""
    grids = [WorkGrid.for_photo(view.camera, max_pixels=max_pixels) for view in scene.views]
    if all(grid.factor == 1 for grid in grids):
        return scene
    return Scene(list(map(_reduced, scene.views, grids)), scene.points)


def reduced_depth(
    scene: Scene, max_pixels: int, load: Callable[[str], DepthMap]
) -> Callable[[str], DepthMap]:
    """What `load` gives of the views of `scene`, on the grids of its `reduced_scene`."""

    def shrunk(name: str) -> DepthMap:
        found, camera = load(name), scene[name].camera
        check_size(name, found.depth.shape, camera)
        grid = WorkGrid.for_photo(camera, max_pixels=max_pixels)
        if grid.factor == 1:
            return found
        depth = grid.shrink_depth(found.depth)
        sure = grid.sample(found.confidence)
        return DepthMap(depth=depth, confidence=np.where(depth > 0, sure, np.float32(0)))

    return shrunk


def _reduced(view: View, grid: WorkGrid) -> View:
    return replace(
        view,
        camera=grid.camera,
        point_xy=view.point_xy / grid.factor,
        reduction=view.reduction * grid.factor,
    )


def load_checked(scene: Scene, load: Callable[[str], DepthMap], name: str) -> DepthMap:
    """The depth map of a view without what the view's mask leaves out.

    Raises `InputError` when its size is not the camera's.
    """
    found = load(name)
    check_size(name, found.depth.shape, scene[name].camera)
    mask = load_mask(scene[name])
    return found if mask is None else found.within(mask)


def check_size(name: str, shape: tuple[int, ...], camera: PinholeCamera) -> None:
    """Raises `InputError` where a depth map (H, W) of view `name` is not the camera's size."""
    if shape != camera.shape:
        raise InputError(
            f"depth map is {shape[1]}x{shape[0]}, its photo {camera.width}x{camera.height}.",
            subject=name,
            action="Make the depth of this view again.",
        )


def median_center(scene: Scene) -> NDArray[np.float64]:
    """Median of the camera centres (3,)."""
    return np.median([view.center for view in scene.views], axis=0)


def typical_spacing(scene: Scene, load: Callable[[str], DepthMap]) -> float:
    """Width of a pixel where the scene lies (ground sampling distance), SfM units: the median over
    the views of each view's median depth over its focal length.

    Depth is that of the SfM points which the views observe; `load` is asked only in a scene without
    points. 1 where neither knows any depth.
    """
    found = [
        float(np.median(points.depth)) / view.camera.mean_focal_px
        for view in scene.views
        if len(points := scene.sparse_depth(view))
    ]
    if not found:
        depths = ((view, load(view.name).depth) for view in scene.views)
        found = [
            float(np.median(depth[depth > 0])) / view.camera.mean_focal_px
            for view, depth in depths
            if (depth > 0).any()
        ]
    return float(np.median(found)) if found else 1.0


def scene_lattice(
    scene: Scene, settings: FusionSettings, load: Callable[[str], DepthMap]
) -> Lattice:
    """Where the voxels of the scene's cloud lie; `load` as in `typical_spacing`."""
    x, y, z = median_center(scene).tolist()
    return Lattice(origin=(x, y, z), voxel=settings.voxel_px * typical_spacing(scene, load))


def position_type(scene: Scene, voxel: float) -> type[np.floating[Any]]:
    """What stores positions around the scene's cameras finely enough for voxels of this size."""
    farthest = max((float(np.abs(view.center).max()) for view in scene.views), default=0.0)
    fine = np.spacing(np.float32(farthest)) <= ROUNDING_VOXELS * voxel
    return np.float32 if fine else np.float64
