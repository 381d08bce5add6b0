"""Mapping: cameras and points from photos alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refdepth.errors import InputError, StageError
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.chosen_pairs import check_vocabulary
from refdepth.sfm.database import (
    compact,
    feature_counts,
    initial_camera,
    open_database,
    verified_pairs,
)
from refdepth.sfm.features import extract_features, mask_hashes, match_features
from refdepth.sfm.focal import camera_groups, focal_start
from refdepth.sfm.native import Cancelled, Progress, thread_count
from refdepth.sfm.pairs import plan_pairs
from refdepth.sfm.placing import chosen_mapper, place_cameras
from refdepth.sfm.rigs import face_cameras
from refdepth.sfm.settings import Mapper, SfmSettings
from refdepth.sfm.summary import SfmSummary
from refdepth.sfm.undistort import summarise, undistort_model

logger = logging.getLogger(__name__)

_LEAST_REGISTERED = 2
"""A model with fewer photos is no result."""
_FEW_FEATURES = 50


def reconstruct(
    images: Path,
    photos: Sequence[PreparedPhoto],
    out: Path,
    settings: SfmSettings | None = None,
    *,
    seed: int = 0,
    threads: int = 0,
    memory_mb: float | None = None,
    masks: Path | None = None,
    focal_px: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> SfmSummary:
    """Finds cameras, poses and points of `photos` (the table of prepared pictures in `images`).

    Leaves in `out`: `database.db`, `sparse/` (the chosen model, with lens distortion) and
    `undistorted/` (`images`, `sparse`, `masks`: a COLMAP dense workspace). A `database.db` that is
    already there and fits is continued. `masks` holds `NAME.png` for photos that have one. `seed`
    is that of all random choices, `threads` how many work at once (0: one a core), `memory_mb` what
    finding and matching features may take (None: half of what is free). `focal_px` are what
    a network says of some photos, by name, for cameras without one in EXIF (see `focal_start`).

    Raises `InputError` for fewer than two photos, `StageError` when no model comes out,
    `Interrupted` when `cancelled` says so (features and matches found so far stay in `out`).
    """
    settings, threads = settings or SfmSettings(), thread_count(threads)
    photos = sorted(photos, key=lambda photo: photo.name)
    if len(photos) < 2:
        raise InputError(
            f"{len(photos)} usable photo{'' if len(photos) == 1 else 's'}; depth from several "
            "views needs at least two, better ten or more.",
            action="Add photos that overlap.",
        )
    plan = plan_pairs(photos, settings)
    pairing = plan.digest + check_vocabulary(settings)
    out.mkdir(parents=True, exist_ok=True)
    database = out / "database.db"
    cameras: dict[str, Any] = face_cameras(photos)
    starts = []
    for group in camera_groups(photos, settings.camera_sharing):
        starts.append(focal_start(group, settings, focal_px or {}))
        logger.info("camera of %d photos starts from %s", len(group), starts[-1])
        camera = initial_camera(group, settings, starts[-1])
        cameras.update((photo.name, camera) for photo in group)
    ordered = {photo.name: cameras[photo.name] for photo in photos}
    hashes = mask_hashes(masks, photos)
    open_database(
        database, photos, ordered, settings, hashes, pairing=pairing, seed=seed, rigs=True
    )
    watch: dict[str, Any] = {"progress": progress, "cancelled": cancelled, "threads": threads}
    limits: dict[str, Any] = {**watch, "memory_mb": memory_mb}
    extract_features(database, images, photos, settings, masks=masks, **limits)
    match_features(database, plan, settings, seed=seed, **limits)
    models = place_cameras(
        database, images, out / "models", len(photos), settings, seed=seed, **watch
    )
    models = [model for model in models if len(model["names"]) >= _LEAST_REGISTERED]
    if not models:
        raise _no_model(database, photos)
    best, *rest = sorted(
        models, key=lambda model: (-len(model["names"]), -model["points"], model["names"])
    )
    others = _elsewhere(best, rest)
    _replace_folder(Path(best["path"]), out / "sparse")
    shutil.rmtree(out / "models")
    undistort_model(out / "sparse", images, out / "undistorted", masks=masks, **watch)
    compact(database)
    return summarise(
        out / "sparse",
        [photo.name for photo in photos],
        other_models=others,
        matching=plan.matching.value,
        focal_starts=starts,
        warnings=(*_warnings(database, photos, best, others), *_of_mapper(settings, len(photos))),
    )


def _replace_folder(source: Path, destination: Path) -> None:
    shutil.rmtree(destination, ignore_errors=True)
    source.rename(destination)


def _no_model(database: Path, photos: Sequence[PreparedPhoto]) -> StageError:
    counts = feature_counts(database)
    originals = {photo.name: photo.original for photo in photos}
    blank = [originals[name] for name, count in counts.items() if count < _FEW_FEATURES]
    pairs = verified_pairs(database)
    if 2 * len(blank) > len(photos):
        reason = f"{len(blank)} of {len(photos)} photos show next to no texture ({_some(blank)})"
        action = "Check that they are sharp, well lit and not blank."
    elif pairs == 0:
        reason = "no two photos show enough of the same place"
        action = "Take photos that overlap by two thirds, of one scene, from different places."
    elif len(photos) < 3:
        reason = "two photos match, but alone they seldom tell focal length from distance"
        action = "Add a third photo from another place, or give the poses."
    else:
        reason = (
            f"{pairs} pairs of photos match, but no two are seen from places far enough apart "
            "to start from"
        )
        action = (
            "Move between photos instead of turning on the spot, or set a smaller "
            "sfm.min_triangulation_angle_deg."
        )
    return StageError(f"no camera could be placed: {reason}.", action=action)


def _elsewhere(best: dict[str, Any], rest: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The photos of each other model that no larger one has."""
    seen = set(best["names"])
    others = []
    for model in rest:
        if new := [name for name in model["names"] if name not in seen]:
            others.append(new)
            seen.update(new)
    return others


def _warnings(
    database: Path,
    photos: Sequence[PreparedPhoto],
    best: dict[str, Any],
    others: Sequence[Sequence[str]],
) -> tuple[str, ...]:
    found = []
    given = {photo.name: photo.given for photo in photos}
    if others:
        largest, *sizes = [len({given[n] for n in names}) for names in (best["names"], *others)]
        found.append(
            f"the photos fall into {1 + len(others)} separate models; the largest ({largest} "
            f"photos) is used, not the others ({', '.join(map(str, sizes))} photos)"
        )
    placed = set(best["names"]).union(*others)
    counts = feature_counts(database)
    failed = [photo for photo in photos if photo.name not in placed]
    textured = {photo.given for photo in failed if counts.get(photo.name, 0) >= _FEW_FEATURES}
    unplaced = dict.fromkeys(photo.given for photo in failed)
    blank = [name for name in unplaced if name not in textured]
    alone = [name for name in unplaced if name in textured]
    if blank:
        found.append(f"without texture, not placed: {_some(blank)}")
    if alone:
        found.append(f"overlap too little with the others, not placed: {_some(alone)}")
    return tuple(found)


def _of_mapper(settings: SfmSettings, count: int) -> tuple[str, ...]:
    if settings.mapper == Mapper.AUTO and chosen_mapper(settings, count) == Mapper.GLOBAL:
        return (
            f"the cameras of {count} photos were placed all at once, which may go wrong unseen; "
            "sfm.mapper=incremental takes hours and is more robust",
        )
    return ()


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
