"""What trainers of Gaussian splats start from: undistorted photos, cameras, and initial points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refdepth.io.colmap import copy_image, copy_mask, to_reconstruction
from refdepth.io.ply import write_ply
from refdepth.types.cloud import PointCloud
from refdepth.types.scene import Scene, View

MAX_POINTS = 300_000
"""More initial points cost training memory and are pruned again."""


def write_splat_dataset(
    folder: Path,
    scene: Scene,
    cloud: PointCloud,
    *,
    max_points: int = MAX_POINTS,
) -> list[Path]:
    """Writes `images/`, `sparse/0/{cameras,images,points3D}.bin` and `sparse/0/points3D.ply`, the
    layout that Inria's trainer, gsplat and their descendants read; masks, where there are any, in
    `masks/NAME.png`. Returns the files.

    The model holds the SfM points with their tracks, which trainers use for depth terms and scale,
    and after them the cloud's points without tracks. The PLY holds the cloud's points. A cloud of
    more than `max_points` is thinned evenly.
    """
    written = write_splat_model(folder, scene, cloud, max_points=max_points)
    return [*(path for view in scene.views for path in copy_photo(view, folder)), *written]


def write_splat_model(
    folder: Path, scene: Scene, cloud: PointCloud, *, max_points: int, together: bool = False
) -> list[Path]:
    """Writes `sparse/0` alone; returns the files. With `together` the scene's points count among
    the `max_points` of the model, so that the cloud only fills up."""
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True, exist_ok=True)
    cloud = cloud.thinned(max_points)
    model = to_reconstruction(scene)
    room = max(0, max_points - len(scene.points)) if together else max_points
    add_points(model, cloud.thinned(room))
    model.write_binary(str(sparse))
    write_ply(sparse / "points3D.ply", cloud)
    return sorted(sparse.iterdir())


def copy_photo(view: View, folder: Path) -> list[Path]:
    """Copies a view's photo to `images/NAME`, its mask, where it has one, to `masks/NAME.png`;
    returns the copies."""
    mask = copy_mask(view, folder / "masks")
    return [copy_image(view, folder / "images"), *([mask] if mask else [])]


def add_points(model: Any, cloud: PointCloud) -> None:
    """Adds the cloud's points, without tracks, to a `pycolmap.Reconstruction`."""
    from refdepth._pycolmap import pycolmap

    for xyz, rgb in zip(cloud.points.astype(np.float64), cloud.colors, strict=True):
        model.add_point3D(xyz, pycolmap.Track(), rgb)
