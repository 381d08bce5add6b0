"""Starting from an existing COLMAP model instead of finding cameras."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.errors import InputError, StageError
from refdepth.ingest.names import NameTable
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.model_check import check_whole
from refdepth.sfm.native import Cancelled, Progress, run_step, thread_count
from refdepth.sfm.settings import SfmSettings
from refdepth.sfm.summary import SfmSummary
from refdepth.sfm.triangulate import triangulate_model
from refdepth.sfm.turned_check import STORED_ACTION, check_turned
from refdepth.sfm.undistort import summarise, undistort_model

_PLACES = ("", "0", "sparse", "sparse/0")
_FILES = ("cameras", "images", "points3D")


def use_model(
    model: Path,
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
    """Takes cameras, poses and points from the COLMAP model in folder `model` (text or binary, any
    camera model) and leaves `sparse/` and `undistorted/` in `out`, as `reconstruct` does.

    The model's images are matched to `photos` by name; those without a photo are dropped with a
    warning. A model without points gets them by triangulation; `seed`, `threads` and `memory_mb`
    are as for `reconstruct`.
    Raises `InputError` when the model cannot be read or does not fit the photos.
    """
    settings, threads = settings or SfmSettings(), thread_count(threads)
    out.mkdir(parents=True, exist_ok=True)
    watch: dict[str, Any] = {"progress": progress, "cancelled": cancelled}
    reconstruction = read_model(model, out, **watch)
    reconstruction, warnings = _fit_to_photos(reconstruction, photos, model)
    check_turned(reconstruction, images, photos)
    shutil.rmtree(out / "sparse", ignore_errors=True)
    (out / "sparse").mkdir()
    reconstruction.write(out / "sparse")
    if reconstruction.num_points3D() == 0:
        warnings.append("the model has no points; they are triangulated with its poses")
        used = {image.name for image in reconstruction.images.values() if image.has_pose}
        kept = [photo for photo in photos if photo.name in used]
        _, doubts = triangulate_model(
            out,
            images,
            kept,
            settings,
            seed=seed,
            threads=threads,
            memory_mb=memory_mb,
            masks=masks,
            **watch,
        )
        warnings += doubts
    undistort_model(
        out / "sparse", images, out / "undistorted", threads=threads, masks=masks, **watch
    )
    return summarise(out / "sparse", [photo.name for photo in photos], warnings=warnings)


def read_model(
    model: Path,
    out: Path,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Any:
    """The `pycolmap.Reconstruction` in folder `model`, or in its `sparse` or `0`.

    It is read in a child process first: half a model can end the process that reads it.
    Raises `InputError` when it is no whole model.
    """
    place = _find(model)
    check_whole(place)
    checked = out / "checked"
    shutil.rmtree(checked, ignore_errors=True)
    try:
        run_step(
            "check_model",
            label="reading the model",
            model=place,
            output=checked,
            progress=progress,
            cancelled=cancelled,
        )
        reconstruction = pycolmap.Reconstruction(checked / "0")
    except StageError as error:
        raise InputError(
            f"not a COLMAP model that can be read ({error.message}).",
            subject=place,
            action="Give a folder with cameras, images and points3D (.bin or .txt), all whole.",
        ) from error
    finally:
        shutil.rmtree(checked, ignore_errors=True)
    for image in reconstruction.images.values():
        if image.has_pose and not np.isfinite(image.cam_from_world().matrix()).all():
            raise InputError(f"image {image.name} has a pose that is no number.", subject=place)
    if reconstruction.num_reg_images() == 0:
        raise InputError("the model has no image with a pose.", subject=place)
    return reconstruction


def _find(model: Path) -> Path:
    for place in _PLACES:
        folder = model / place
        for suffix in (".bin", ".txt"):
            if all((folder / f"{name}{suffix}").is_file() for name in _FILES):
                return folder
    raise InputError(
        "no COLMAP model here.",
        subject=model,
        action="Give a folder with cameras, images and points3D (.bin or .txt).",
    )


def _fit_to_photos(
    reconstruction: Any, photos: Sequence[PreparedPhoto], subject: Path
) -> tuple[Any, list[str]]:
    """The model with its images renamed to the prepared photos and its cameras at their size,
    without what has no photo; and what a user should know."""
    posed = [image for image in reconstruction.images.values() if image.has_pose]
    rows = {photo.name: photo for photo in photos}
    matched = NameTable.of(photos).match(image.name for image in posed)
    found = {name: rows[photo] for name, photo in matched.items()}
    if not found:
        raise InputError(
            f"none of the model's {len(posed)} images is among the photos "
            f"({posed[0].name} is not).",
            subject=subject,
            action="Give the photos that the model was made of, under the same names.",
        )
    dropped = [image for image in posed if image.name not in found]
    split = {image.frame_id for image in dropped}
    if any(image.frame_id in split for image in posed if image.name in found):
        reconstruction = _alone(reconstruction, [one for one in posed if one.name in found])
        posed = list(reconstruction.images.values())
    else:
        for frame_id in split:
            reconstruction.deregister_frame(frame_id)
    scales: dict[int, tuple[float, float]] = {}
    for image in posed:
        if image.name not in found:
            continue
        photo = found[image.name]
        camera = reconstruction.cameras[image.camera_id]
        if image.camera_id not in scales:
            scales[image.camera_id] = photo.width / camera.width, photo.height / camera.height
            check_size(camera.width, camera.height, photo)
            camera.rescale(photo.width, photo.height)
        elif (camera.width, camera.height) != (photo.width, photo.height):
            raise InputError(
                f"shares its camera with photos of another size ({camera.width}x{camera.height}).",
                subject=photo.original,
                action="Give the photos that the model was made of.",
            )
        scale = np.array(scales[image.camera_id])
        if not np.array_equal(scale, [1.0, 1.0]):
            for point in image.points2D:
                point.xy = point.xy * scale
    temporary = {image.image_id: found[image.name].name for image in posed if image.name in found}
    for image in reconstruction.images.values():  # first out of the way: names must stay unique
        image.name = f"{image.image_id}/{image.name}"
    for image_id, name in temporary.items():
        reconstruction.images[image_id].name = name
    if dropped:
        return reconstruction, [
            f"{len(dropped)} of the model's images have no photo and are not used"
        ]
    return reconstruction, []


def _alone(model: Any, images: Sequence[Any]) -> Any:
    """A model of some `images` of `model`, each posed by itself and not as part of a rig, with the
    points that two of them see."""
    fresh = pycolmap.Reconstruction()
    for camera_id in sorted({image.camera_id for image in images}):
        camera = pycolmap.Camera(model.camera(camera_id).todict())
        fresh.add_camera_with_trivial_rig(camera)
    for image in images:
        keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        copy = pycolmap.Image(
            name=image.name,
            keypoints=keypoints,
            camera_id=image.camera_id,
            image_id=image.image_id,
        )
        fresh.add_image_with_trivial_frame(copy, image.cam_from_world())
    for point in model.points3D.values():
        track = pycolmap.Track()
        for element in point.track.elements:
            if fresh.exists_image(element.image_id):
                track.add_element(element)
        if track.length() > 1:
            added = fresh.add_point3D(point.xyz, track, point.color)
            fresh.point3D(added).error = point.error
    return fresh


def check_size(width: int, height: int, photo: PreparedPhoto) -> None:
    """Raises `InputError` unless a camera of `width` x `height` can be the photo's, at any size."""
    if abs(width * photo.height - height * photo.width) <= max(photo.width, photo.height, width):
        return
    turned = abs(width * photo.width - height * photo.height) <= max(photo.width, width)
    raise InputError(
        f"the camera is {width}x{height}, the photo {photo.width}x{photo.height}.",
        subject=photo.original,
        action=STORED_ACTION
        if turned and photo.orientation >= 5
        else "Give the photos that the cameras belong to.",
    )
