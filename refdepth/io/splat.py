"""What trainers of Gaussian splats start from: undistorted photos, cameras, and initial points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refdepth.io.colmap import copy_image, copy_mask, to_reconstruction
from refdepth.io.ply import write_ply
from refdepth.types.cloud import PointCloud
from refdepth.types.scene import Scene

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
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True, exist_ok=True)
    cloud = cloud.thinned(max_points)
    model = to_reconstruction(scene)
    add_points(model, cloud)
    model.write_binary(str(sparse))
    path = sparse / "points3D.ply"
    write_ply(path, cloud)
    return [
        *(copy_image(view, folder / "images") for view in scene.views),
        *(copy for view in scene.views if (copy := copy_mask(view, folder / "masks"))),
        *sorted(sparse.iterdir()),
    ]


def add_points(model: Any, cloud: PointCloud) -> None:
    """Adds the cloud's points, without tracks, to a `pycolmap.Reconstruction`."""
    from refdepth._pycolmap import pycolmap

    for xyz, rgb in zip(cloud.points.astype(np.float64), cloud.colors, strict=True):
        model.add_point3D(xyz, pycolmap.Track(), rgb)
