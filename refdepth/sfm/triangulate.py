"""Points for cameras whose poses are given."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refdepth._pycolmap import pycolmap
from refdepth.errors import StageError
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.chosen_pairs import check_vocabulary
from refdepth.sfm.database import compact, matched_features, open_database
from refdepth.sfm.features import extract_features, mask_hashes, match_features
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.pairs import plan_pairs
from refdepth.sfm.settings import Matching, SfmSettings

_REFUSED_SHARE = 0.1
_DOUBTED_SHARE = 0.5
"""Shares of the matched features that fit the poses. On synthetic photos: exact poses 0.8, poses
off by 1 degree 0.24, poses of other photos on the same path 0.4, wrong axes under 0.01."""


def triangulate_model(
    out: Path,
    images: Path,
    photos: Sequence[PreparedPhoto],
    settings: SfmSettings,
    *,
    seed: int,
    threads: int,
    memory_mb: float | None,
    masks: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[Matching, list[str]]:
    """Replaces the points of the model in `out`/sparse (poses of all `photos`) by ones triangulated
    from features in `out`/database.db, poses held fixed. Returns how pairs were chosen and what a
    user should know.

    Raises `StageError` when next to no points agree with the poses.
    """
    database = out / "database.db"
    model = pycolmap.Reconstruction(out / "sparse")
    posed = {image.name: image for image in model.images.values() if image.has_pose}
    photos = sorted(photos, key=lambda photo: photo.name)
    shared: dict[int, Any] = {}
    for image in posed.values():
        camera = shared.setdefault(image.camera_id, pycolmap.Camera(image.camera.todict()))
        camera.has_prior_focal_length = True
    cameras = {photo.name: shared[posed[photo.name].camera_id] for photo in photos}
    plan = plan_pairs(photos, settings)
    pairing = plan.digest + check_vocabulary(settings)
    hashes = mask_hashes(masks, photos)
    open_database(database, photos, cameras, settings, hashes, pairing=pairing, seed=seed)
    watch: dict[str, Any] = {"progress": progress, "cancelled": cancelled}
    limits: dict[str, Any] = {**watch, "threads": threads, "memory_mb": memory_mb}
    extract_features(database, images, photos, settings, masks=masks, **limits)
    match_features(database, plan, settings, seed=seed, **limits)
    start = out / "posed"
    _write_posed(database, posed, start)
    shutil.rmtree(out / "models", ignore_errors=True)
    (made,) = run_step(
        "triangulate",
        label="triangulating points",
        database=database,
        images=images,
        model=start,
        output=out / "models",
        refine_intrinsics=settings.refine_intrinsics,
        seed=seed,
        threads=1 if settings.deterministic else threads,
        **watch,
    )
    shutil.rmtree(start)
    shutil.rmtree(out / "sparse")
    Path(made["path"]).rename(out / "sparse")
    shutil.rmtree(out / "models")
    compact(database)
    share = _agreeing_share(database, out / "sparse")
    advice = (
        "Check that poses and intrinsics belong to these photos and that the axes are as expected "
        "(transforms.json: OpenGL, camera to world)."
    )
    if share < _REFUSED_SHARE:
        raise StageError(
            f"only {made['points']} points, {share:.0%} of the matched features, agree with the "
            f"given poses of {len(photos)} photos.",
            action=advice,
        )
    if share < _DOUBTED_SHARE:
        return plan.matching, [f"only {share:.0%} of the matched features fit the poses. {advice}"]
    return plan.matching, []


def _agreeing_share(database: Path, model: Path) -> float:
    """Share of the features with a verified match that belong to a triangulated point."""
    count = matched_features(database)
    return pycolmap.Reconstruction(model).compute_num_observations() / max(1, count)


def _write_posed(database: Path, posed: dict[str, Any], folder: Path) -> None:
    """A model without points that has the database's ids and the poses of `posed`."""
    start = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            start.add_camera_with_trivial_rig(camera)
        for image in opened.read_all_images():
            pose = posed[image.name].cam_from_world()
            fresh = pycolmap.Image(
                name=image.name, camera_id=image.camera_id, image_id=image.image_id
            )
            start.add_image_with_trivial_frame(fresh, pose)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start.write(folder)
