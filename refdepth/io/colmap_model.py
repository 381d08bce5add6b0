"""COLMAP's sparse models as scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import Scene, SparsePoints, View


def read_scene(
    model_dir: str | Path, image_dir: str | Path, mask_dir: str | Path | None = None
) -> Scene:
    """A scene from an undistorted COLMAP model folder (text or binary), its photos in `image_dir`,
    masks as `NAME.png` in `mask_dir` for photos that have one.

    Raises `InputError` when the model cannot be read.
    """
    from refdepth._pycolmap import pycolmap

    try:
        reconstruction = pycolmap.Reconstruction(str(model_dir))
    except Exception as error:
        raise InputError(
            f"not a COLMAP model that can be read ({str(error).splitlines()[0]}).",
            subject=Path(model_dir),
            action="Give a folder with cameras, images and points3D (.bin or .txt).",
        ) from error
    masks = None if mask_dir is None else Path(mask_dir)
    return scene_of(reconstruction, Path(image_dir), masks)


def scene_of(reconstruction: Any, image_dir: Path, mask_dir: Path | None = None) -> Scene:
    """A scene from an undistorted `pycolmap.Reconstruction` (PINHOLE or SIMPLE_PINHOLE
    cameras) whose pictures lie in `image_dir`, masks as `NAME.png` in `mask_dir`.

    Raises `InputError` when a camera has lens distortion or no view is registered.
    """
    ids = np.fromiter(reconstruction.points3D, dtype=np.int64)
    ids.sort()
    points = _points_of(reconstruction, ids)
    views = []
    for image in reconstruction.images.values():
        if not image.has_pose:
            continue
        camera = reconstruction.cameras[image.camera_id]
        if camera.model.name not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise InputError(
                f"camera {image.camera_id} is {camera.model.name}, not undistorted.",
                subject=image.name,
                action="Undistort the model first (the sfm stage does).",
            )
        seen = [p for p in image.points2D if p.has_point3D()]
        mask_path = None if mask_dir is None else mask_dir / f"{image.name}.png"
        views.append(
            View(
                name=image.name,
                camera=PinholeCamera(
                    K=camera.calibration_matrix(), width=camera.width, height=camera.height
                ),
                cam_from_world=np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]),
                point_index=np.searchsorted(ids, [p.point3D_id for p in seen]).astype(np.int64),
                point_xy=np.array([p.xy for p in seen], dtype=np.float64).reshape(-1, 2),
                image_path=image_dir / image.name,
                mask_path=mask_path if mask_path and mask_path.exists() else None,
            )
        )
    if not views:
        raise InputError("the model has no registered view.", subject=image_dir)
    return Scene(views, points)


def _points_of(reconstruction: Any, ids: NDArray[np.int64]) -> SparsePoints:
    """The points of these ids (N,), one after the other: Python's objects of thousands of views
    would take more memory than the scene."""
    found = SparsePoints(
        xyz=np.empty((len(ids), 3)),
        rgb=np.empty((len(ids), 3), np.uint8),
        error_px=np.empty(len(ids)),
        track_length=np.empty(len(ids), np.int64),
    )
    points3d = reconstruction.points3D
    for row, point_id in enumerate(ids.tolist()):
        point = points3d[point_id]
        found.xyz[row], found.rgb[row] = point.xyz, point.color
        found.error_px[row], found.track_length[row] = point.error, point.track.length()
    return found
