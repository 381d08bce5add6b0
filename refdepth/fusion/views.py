"""What fusion takes from the views: checked depth, colours, the scene's place and its typical
ground sampling distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.io.images import load_mask
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

ROUNDING_VOXELS = 0.01
"""Positions may be rounded by this part of a voxel."""


def load_checked(scene: Scene, load: Callable[[str], DepthMap], name: str) -> DepthMap:
    """The depth map of a view without what the view's mask leaves out.

    Raises `InputError` when its size is not the camera's.
    """
    found = load(name)
    expected = scene[name].camera.shape
    if found.depth.shape != expected:
        raise InputError(
            f"depth map is {found.depth.shape[1]}x{found.depth.shape[0]}, its photo "
            f"{expected[1]}x{expected[0]}.",
            subject=name,
            action="Make the depth of this view again.",
        )
    mask = load_mask(scene[name])
    return found if mask is None else found.within(mask)


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


def position_type(scene: Scene, voxel: float) -> type[np.floating[Any]]:
    """What stores positions around the scene's cameras finely enough for voxels of this size."""
    farthest = max((float(np.abs(view.center).max()) for view in scene.views), default=0.0)
    fine = np.spacing(np.float32(farthest)) <= ROUNDING_VOXELS * voxel
    return np.float32 if fine else np.float64
