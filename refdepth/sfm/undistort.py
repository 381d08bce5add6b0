"""From a model with lens distortion to pinhole pictures, cameras and masks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.errors import StageError
from refdepth.ingest.saving import save_png
from refdepth.sfm.focal import FocalStart
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.summary import SfmSummary

_JPEG_QUALITY = 98
_ROWS_AT_A_TIME = 256


def undistort_model(
    model: Path,
    images: Path,
    out: Path,
    *,
    threads: int,
    masks: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Writes `out` anew as a COLMAP dense workspace: `images`, `sparse` and `stereo` of the photos
    with a pose, cropped so that no pixel is blank; `masks/NAME.png` for those that have one."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    reconstruction = pycolmap.Reconstruction(model)
    run_step(
        "undistort",
        label="undistorting photos",
        total=reconstruction.num_reg_images(),
        images=images,
        model=model,
        output=out,
        jpeg_quality=_JPEG_QUALITY,
        threads=threads,
        progress=progress,
        cancelled=cancelled,
    )
    for script in out.glob("run-colmap-*.sh"):
        script.unlink()
    pinhole = pycolmap.Reconstruction(out / "sparse")
    for image in pinhole.images.values():
        if not (out / "images" / image.name).exists():
            raise StageError("could not be undistorted.", subject=image.name)
        mask = None if masks is None else masks / f"{image.name}.png"
        if mask is None or not mask.exists():
            continue
        (out / "masks").mkdir(exist_ok=True)
        distorted = reconstruction.find_image_with_name(image.name).camera
        with Image.open(mask) as picture:
            values = np.asarray(picture.convert("L"))
        warped = warp_nearest(values, distorted, image.camera)
        save_png(Image.fromarray(warped), out / "masks" / f"{image.name}.png")


def warp_nearest(values: np.ndarray, distorted: Any, undistorted: Any) -> np.ndarray:
    """`values` (height, width) in the grid of camera `distorted`, resampled to the grid of
    `undistorted` by the nearest pixel; 0 outside."""
    height, width = undistorted.height, undistorted.width
    out = np.zeros((height, width), values.dtype)
    for top in range(0, height, _ROWS_AT_A_TIME):
        bottom = min(top + _ROWS_AT_A_TIME, height)
        y, x = np.mgrid[top:bottom, 0:width] + 0.5
        rays = undistorted.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
        xy = distorted.img_from_cam(np.column_stack([rays, np.ones(len(rays))]))
        column, row = np.floor(np.nan_to_num(xy, nan=-1.0)).astype(np.int64).T
        inside = (column >= 0) & (column < values.shape[1]) & (row >= 0) & (row < values.shape[0])
        part = np.zeros(len(rays), values.dtype)
        part[inside] = values[row[inside], column[inside]]
        out[top:bottom] = part.reshape(bottom - top, width)
    return out


def summarise(
    model: Path,
    names: Sequence[str],
    *,
    other_models: Sequence[Sequence[str]] = (),
    matching: str = "",
    focal_starts: Sequence[FocalStart] = (),
    warnings: Sequence[str] = (),
) -> SfmSummary:
    """What the model in folder `model` holds of the photos `names`."""
    reconstruction = pycolmap.Reconstruction(model)
    placed = {image.name: image for image in reconstruction.images.values() if image.has_pose}
    return SfmSummary(
        registered=tuple(sorted(placed)),
        failed=tuple(sorted(set(names) - set(placed))),
        points=reconstruction.num_points3D(),
        mean_reprojection_error_px=float(reconstruction.compute_mean_reprojection_error()),
        mean_track_length=float(reconstruction.compute_mean_track_length()),
        cameras=len({image.camera_id for image in placed.values()}),
        other_models=tuple(tuple(model) for model in other_models),
        matching=matching,
        focal_starts=tuple(focal_starts),
        warnings=tuple(warnings),
    )
