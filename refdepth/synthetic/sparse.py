"""Sparse points with tracks, as structure from motion would find them, from exact geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import camera_center, invert_pose, transform
from refdepth.types.scene import Scene, SparsePoints, View

Array = NDArray[np.float64]

_SEEN_SHARE = 0.75
"""How many of the views that could see a point have matched it."""
_SAME_DEPTH = 0.005
_SPACING_PX = 3


def sample_scene(
    views: Sequence[SyntheticView],
    image_dir: Path,
    points_per_view: int,
    noise_px: float,
    rng: np.random.Generator,
) -> Scene:
    """A `Scene` of exact cameras whose points sit at image corners seen by two views or more."""
    xyz, rgb = _pick_points(views, points_per_view)
    sees = np.stack([_visible(view, xyz) for view in views])
    sees &= rng.random(sees.shape) < _SEEN_SHARE
    kept = sees.sum(axis=0) >= 2
    xyz, rgb, sees = xyz[kept], rgb[kept], sees[:, kept]

    view_of, point_of = np.nonzero(sees)
    observed = np.concatenate(
        [_project(view, xyz[seen]) for view, seen in zip(views, sees, strict=True)]
    )
    observed = observed + rng.normal(0, noise_px, observed.shape)
    xyz = _triangulate(views, view_of, point_of, observed, len(xyz))
    error = np.zeros(len(observed))
    for index, view in enumerate(views):
        rows = view_of == index
        error[rows] = np.linalg.norm(_project(view, xyz[point_of[rows]]) - observed[rows], axis=1)
    track_length = np.bincount(point_of, minlength=len(xyz))
    points = SparsePoints(
        xyz=xyz,
        rgb=rgb,
        error_px=np.bincount(point_of, error, len(xyz)) / np.maximum(track_length, 1),
        track_length=track_length.astype(np.int64),
    )
    return Scene(
        [
            View(
                name=str(Path(view.name).with_suffix(".png")),
                camera=view.camera,
                cam_from_world=view.cam_from_world,
                point_index=point_of[view_of == index].astype(np.int64),
                point_xy=observed[view_of == index],
                image_path=image_dir / Path(view.name).with_suffix(".png"),
            )
            for index, view in enumerate(views)
        ],
        points,
    )


def _pick_points(
    views: Sequence[SyntheticView], points_per_view: int
) -> tuple[Array, NDArray[np.uint8]]:
    """World points (N, 3) and colours (N, 3) at the strongest corners of each view that no
    earlier view has already given."""
    xyz: Array = np.empty((0, 3))
    rgb = np.empty((0, 3), np.uint8)
    for view in views:
        taken = np.zeros(view.camera.shape, bool)
        known = _project(view, xyz[_visible(view, xyz)]).astype(int)
        taken[known[:, 1], known[:, 0]] = True
        taken = ndimage.binary_dilation(taken, iterations=_SPACING_PX)
        unusable = taken | _near_edge(view.depth) | (view.depth == 0)
        score = np.where(unusable, 0.0, _corner_score(view.image))
        rows, columns = np.nonzero(score > 1e-5)
        best = np.argsort(-score[rows, columns], kind="stable")[:points_per_view]
        rows, columns = rows[best], columns[best]
        xy = np.stack([columns + 0.5, rows + 0.5], axis=1)
        local = view.camera.unproject(view.depth[rows, columns], xy)
        xyz = np.concatenate([xyz, transform(invert_pose(view.cam_from_world), local)])
        colors = np.round(view.image[rows, columns] * 255).astype(np.uint8)
        rgb = np.concatenate([rgb, colors])
    return xyz, rgb


def _corner_score(image: NDArray[np.float32]) -> Array:
    """Smaller eigenvalue of the structure tensor (H, W) at its local maxima, 0 elsewhere."""
    grey = ndimage.gaussian_filter(image.mean(axis=2).astype(np.float64), 1.0)
    gy, gx = np.asarray(np.gradient(grey))
    xx, yy, xy = (ndimage.gaussian_filter(a, 1.5) for a in (gx * gx, gy * gy, gx * gy))
    score = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    border = 4
    inner = np.zeros_like(score)
    inner[border:-border, border:-border] = score[border:-border, border:-border]
    peak = ndimage.maximum_filter(inner, 2 * _SPACING_PX + 1) == inner
    return np.where(peak, inner, 0.0)


def _near_edge(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a depth step is close (H, W): corners there belong to no surface."""
    return ndimage.maximum_filter(depth, 5) > 1.05 * ndimage.minimum_filter(depth, 5)


def _visible(view: SyntheticView, xyz: Array) -> NDArray[np.bool_]:
    """Which world points (N, 3) the view sees, judged on its exact depth."""
    xy, z = view.camera.project(transform(view.cam_from_world, xyz))
    inside = view.camera.contains(xy)
    visible = np.zeros(len(xyz), bool)
    column, row = xy[inside].astype(int).T
    offset = xy[inside] - (np.stack([column, row], axis=1) + 0.5)
    # The exact depth is known at pixel centres; carry it to the projection along its slope.
    slope_y, slope_x = np.asarray(np.gradient(view.depth.astype(np.float64)))
    there = view.depth[row, column] + offset[:, 0] * slope_x[row, column]
    there += offset[:, 1] * slope_y[row, column]
    close = np.abs(there / z[inside] - 1) < _SAME_DEPTH
    visible[inside] = close & ~_near_edge(view.depth)[row, column]
    return visible


def _project(view: SyntheticView, xyz: Array) -> Array:
    return view.camera.project(transform(view.cam_from_world, xyz))[0]


def _triangulate(
    views: Sequence[SyntheticView],
    view_of: NDArray[np.intp],
    point_of: NDArray[np.intp],
    xy: Array,
    count: int,
) -> Array:
    """Points (count, 3) nearest to all their viewing rays, in the least-squares sense."""
    A, b = np.zeros((count, 3, 3)), np.zeros((count, 3))
    for index, view in enumerate(views):
        rows = view_of == index
        rays = view.camera.rays(xy[rows]) @ view.cam_from_world[:3, :3]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
        np.add.at(A, point_of[rows], across)
        np.add.at(b, point_of[rows], across @ camera_center(view.cam_from_world))
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0], dtype=np.float64)
