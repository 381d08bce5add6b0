"""Where a lens' axis meets the picture. Mappers take the centre, which cropped and stabilised
pictures miss by several percent of their size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from refdepth._pycolmap import pycolmap
from refdepth.sfm.adjustment import adjust
from refdepth.sfm.rigs import rigid

LEAST_PHOTOS = 10
"""A camera of fewer placed photos keeps its principal point: too little tells a shift from a turn.
"""
CLEAR_GAIN = 0.01
"""Share by which the mean reprojection error has to fall. True shifts of two percent of the picture
lowered it by 1.8 and 2.5 percent; what noise alone finds, by a tenth of a percent."""
LARGEST_SHIFT = 0.1
"""Share of the picture's side beyond which a shift is not believed."""


def refine_principal_points(folder: Path, *, threads: int) -> Any:
    """The model in `folder` after bundle adjustment with free principal points, written back where
    the photos clearly ask for it; else the model as it was.

    A camera whose shift is not believed keeps its intrinsics, and the others are adjusted again
    without it.
    """
    given = pycolmap.Reconstruction(folder)
    photos = Counter(image.camera_id for image in given.images.values() if image.has_pose)
    _, faces = rigid(given.rigs.values())
    free = {c for c, count in photos.items() if count >= LEAST_PHOTOS and c not in faces}
    while free:
        refined = pycolmap.Reconstruction(folder)
        fixed = set(photos) - free
        placed = [image.image_id for image in refined.images.values() if image.has_pose]
        adjust(refined, placed, threads=threads, principal_points=True, fixed_cameras=fixed)
        shifts = {camera: _shift(given, refined, camera) for camera in free}
        furthest = max(free, key=lambda camera: (shifts[camera], camera))
        if shifts[furthest] <= LARGEST_SHIFT:
            break
        free.remove(furthest)  # one at a time: what it did to the others is undone first
    if not free or not _clearly_better(given, refined):
        return given
    refined.write(folder)
    return refined


def _shift(given: Any, refined: Any, camera: int) -> float:
    """How far the principal point of a camera moved, as a share of the picture's side."""
    before, after = given.cameras[camera], refined.cameras[camera]
    return max(
        abs(after.principal_point_x - before.principal_point_x) / before.width,
        abs(after.principal_point_y - before.principal_point_y) / before.height,
    )


def _clearly_better(given: Any, refined: Any) -> bool:
    for model in (given, refined):
        model.update_point_3d_errors()
    # Over points, of the means over their tracks: as the model keeps them.
    return bool(
        refined.compute_mean_reprojection_error()
        < (1 - CLEAR_GAIN) * given.compute_mean_reprojection_error()
    )
