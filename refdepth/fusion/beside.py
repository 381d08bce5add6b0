"""The faces of a panorama as one picture: where two overlap, one surface fades into the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.photo_grid import sample_depth
from refdepth.types.camera import PinholeCamera, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

Map = NDArray[np.float32]


def beside_of(view: View, scene: Scene) -> list[View]:
    """The other views of `scene` that were taken from where `view` was."""
    from refdepth.matching.neighbours import rows_at_place

    found = (scene.views[row] for row in sorted(rows_at_place(scene, view).tolist()))
    return [other for other in found if other.name != view.name]


def fade_into(
    view: View,
    beside: Sequence[View],
    depth: Map,
    load: Callable[[str], DepthMap],
    max_ratio: float,
) -> Map:
    """`depth` (H, W; 0 unknown) of a view, faded into what those at the same place have (`load`)
    where their pictures overlap with its own and their depth differs by less than `max_ratio`; the
    same array where none do.

    Each view was measured with neighbours of its own, so that one surface lies a little apart in
    two of them, and has a step where the cloud goes over from one to the other. A view counts by
    how far inside its picture a ray lies: both have the same depth half way, and each goes on
    without a step where the other ends. Views at one place still confirm nothing of each other.
    """
    weight = _inside(view.camera, view.camera.pixel_grid())
    total, inverse = None, None
    for other in beside:
        near = load(other.name).depth
        turn = relative_pose(other.cam_from_world, view.cam_from_world)[:3, :3]
        rays = view.camera.rays() @ turn.T
        xy, seen = other.camera.project(rays)
        rows, columns = np.nonzero((depth > 0) & other.camera.contains(xy))
        xy, seen = xy[rows, columns], seen[rows, columns]
        found = sample_depth(near, xy).astype(np.float64)
        own = depth[rows, columns].astype(np.float64)
        met = found / seen
        same = (found > 0) & (np.abs(met / own - 1) <= max_ratio)
        if not same.any():
            continue
        if total is None or inverse is None:
            total = weight.copy()
            inverse = np.divide(weight, depth, out=np.zeros_like(weight), where=depth > 0)
        rows, columns, met = rows[same], columns[same], met[same]
        theirs = _inside(other.camera, xy[same])
        total[rows, columns] += theirs
        inverse[rows, columns] += theirs / met
    if total is None or inverse is None:
        return depth
    faded = np.divide(total, inverse, out=np.zeros_like(total), where=inverse > 0)
    return np.where(total > weight, faded, depth).astype(np.float32)


def _inside(camera: PinholeCamera, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far inside the picture pixels (..., 2) lie, in focal lengths."""
    x, y = xy[..., 0], xy[..., 1]
    across = np.minimum(x, camera.width - x) / camera.K[0, 0]
    down = np.minimum(y, camera.height - y) / camera.K[1, 1]
    return np.minimum(across, down)
