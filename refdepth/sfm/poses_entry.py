"""Starting from known poses: points are triangulated with the cameras held in place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.errors import InputError
from refdepth.ingest.names import NameTable
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.model_entry import check_size
from refdepth.sfm.native import Cancelled, Progress, thread_count
from refdepth.sfm.settings import SfmSettings
from refdepth.sfm.summary import SfmSummary
from refdepth.sfm.transforms import PosedFrame, read_transforms
from refdepth.sfm.triangulate import triangulate_model
from refdepth.sfm.undistort import summarise, undistort_model
from refdepth.types.camera import camera_center


def use_poses(
    transforms: Path,
    images: Path,
    photos: Sequence[PreparedPhoto],
    out: Path,
    settings: SfmSettings | None = None,
    *,
    seed: int = 0,
    threads: int = 0,
    memory_mb: float | None = None,
    masks: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> SfmSummary:
    """Takes cameras and poses from a `transforms.json`, triangulates points with the poses held
    fixed and leaves `database.db`, `sparse/` and `undistorted/` in `out`, as `reconstruct` does.
    World coordinates stay those of the file. `seed`, `threads` and `memory_mb` are as for
    `reconstruct`.

    Raises `InputError` for a file that is wrong or fits fewer than two photos, `StageError` when
    the photos do not agree with the poses.
    """
    settings, threads = settings or SfmSettings(), thread_count(threads)
    frames = read_transforms(transforms)
    found = NameTable.of(photos).match(frame.name for frame in frames)
    rows = {photo.name: photo for photo in photos}
    posed = [(frame, rows[found[frame.name]]) for frame in frames if frame.name in found]
    if len(posed) < 2:
        raise InputError(
            f"{len(posed)} of its {len(frames)} frames are among the photos "
            f"({next((f.name for f in frames if f.name not in found), '')} is not).",
            subject=transforms,
            action="Give the folder of photos that its file_path names mean.",
        )
    centers = np.array([camera_center(frame.cam_from_world) for frame, _ in posed])
    if np.ptp(centers, axis=0).max() <= 1e-9 * max(1.0, np.abs(centers).max()):
        raise InputError("all cameras stand in one place.", subject=transforms)
    out.mkdir(parents=True, exist_ok=True)
    _write_model(out / "sparse", posed, transforms)
    watch: dict[str, Any] = {"progress": progress, "cancelled": cancelled, "threads": threads}
    kept = [photo for _, photo in posed]
    matching, warnings = triangulate_model(
        out, images, kept, settings, seed=seed, memory_mb=memory_mb, masks=masks, **watch
    )
    undistort_model(out / "sparse", images, out / "undistorted", masks=masks, **watch)
    if missing := len(frames) - len(posed):
        warnings.append(f"{missing} of the {len(frames)} frames have no photo and are not used")
    return summarise(
        out / "sparse",
        [photo.name for photo in photos],
        matching=matching.value,
        warnings=warnings,
    )


def _write_model(
    folder: Path, posed: Sequence[tuple[PosedFrame, PreparedPhoto]], subject: Path
) -> None:
    model = pycolmap.Reconstruction()
    camera_ids: dict[tuple[Any, ...], int] = {}
    for image_id, (frame, photo) in enumerate(posed, start=1):
        if frame.intrinsics.width and frame.intrinsics.height:
            size = round(frame.intrinsics.width), round(frame.intrinsics.height)
            check_size(*size, photo)
        given = frame.intrinsics.sized(*photo.upright_size)
        try:
            kind, params = given.colmap(photo.width, photo.height)
        except InputError as error:
            raise InputError(
                error.message, subject=f"{subject}: {frame.name}", action=error.action
            ) from error
        key = (kind, tuple(params), photo.width, photo.height)
        if key not in camera_ids:
            camera_ids[key] = len(camera_ids) + 1
            camera = pycolmap.Camera(
                camera_id=camera_ids[key],
                model=kind,
                width=photo.width,
                height=photo.height,
                params=params,
            )
            model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=photo.name, camera_id=camera_ids[key], image_id=image_id)
        pose = pycolmap.Rigid3d(frame.cam_from_world[:3])
        model.add_image_with_trivial_frame(image, pose)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.write(folder)
