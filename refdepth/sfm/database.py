"""The feature database: made for given photos and cameras, reused where it still fits."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.focal import FocalSource, FocalStart, is_fisheye
from refdepth.sfm.rigs import panorama_rig
from refdepth.sfm.settings import SfmSettings
from refdepth.sfm.sift import WHOLE_PIXELS


def initial_camera(
    photos: Sequence[PreparedPhoto], settings: SfmSettings, start: FocalStart
) -> Any:
    """The `pycolmap.Camera` that a group of photos starts from."""
    first = photos[0]
    camera = pycolmap.Camera.create_from_model_name(
        0, settings.camera_model.value, start.focal_px, first.width, first.height
    )
    # Without one, pairs are checked on pixels as they are, where a fisheye has no epipolar lines.
    camera.has_prior_focal_length = start.source is FocalSource.EXIF or is_fisheye(settings)
    return camera


def open_database(
    path: Path,
    photos: Sequence[PreparedPhoto],
    cameras: Mapping[str, Any],
    settings: SfmSettings,
    masks: Mapping[str, str],
    *,
    pairing: str,
    seed: int,
    rigs: bool = False,
) -> None:
    """Makes sure that a database stands at `path` which holds exactly `photos`, each with its
    camera (`cameras`: photo name to `pycolmap.Camera`, shared ones the same object). With `rigs`
    the faces of a panorama, with cameras of `face_cameras`, move together.

    A database made before is kept if all that determines the features is unchanged; its matches
    are kept if what determines them is unchanged too: `pairing` stands for how pairs are chosen.
    `masks` gives the content hash of each mask.
    """
    panoramas = _panoramas(photos) if rigs else {}
    marks = _marks(photos, cameras, settings, masks, pairing, seed, panoramas)
    mark_path = path.with_suffix(".json")
    before = _read_marks(mark_path) if path.exists() else {}
    if before.get("features") != marks["features"] or not _readable(path):
        for leftover in path.parent.glob(path.name + "*"):
            leftover.unlink()
        mark_path.unlink(missing_ok=True)
        _create(path, photos, cameras, panoramas)
    elif before.get("matches") != marks["matches"]:
        with pycolmap.Database.open(path) as database:
            database.clear_matches()
            database.clear_two_view_geometries()
    mark_path.write_text(json.dumps(marks, indent=1))


def match_mark(path: Path) -> str:
    """Stands for all that determines the matches in the database at `path`."""
    return str(_read_marks(path.with_suffix(".json")).get("matches"))


def compact(path: Path) -> None:
    """Rewrites the database in row order, so that equal content means equal bytes."""
    fresh = path.with_suffix(".compact")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(fresh),))
    for leftover in (path.with_name(path.name + end) for end in ("-wal", "-shm")):
        leftover.unlink(missing_ok=True)
    fresh.replace(path)


def feature_counts(path: Path) -> dict[str, int]:
    """Number of features of each photo."""
    query = "SELECT name, COALESCE(rows, 0) FROM images LEFT JOIN keypoints USING (image_id)"
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute(query).fetchall())


def verified_pairs(path: Path, min_inliers: int = 15) -> int:
    """Number of pairs of photos with at least `min_inliers` geometrically consistent matches."""
    query = "SELECT COUNT(*) FROM two_view_geometries WHERE rows >= ?"
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(query, (min_inliers,)).fetchone()[0])


def matched_features(path: Path) -> int:
    """Number of features with a verified match; one pair's matches are in memory at a time."""
    with closing(sqlite3.connect(path)) as connection:
        features = connection.execute("SELECT image_id, rows FROM keypoints")
        matched = {image: np.zeros(rows, np.bool_) for image, rows in features}
        query = "SELECT pair_id, cols, data FROM two_view_geometries WHERE rows > 0"
        for pair, columns, data in connection.execute(query):
            inliers = np.frombuffer(data, np.uint32).reshape(-1, columns)
            for image, column in zip(pycolmap.pair_id_to_image_pair(pair), inliers.T, strict=True):
                matched[image][column] = True
    return sum(int(found.sum()) for found in matched.values())


def _panoramas(photos: Sequence[PreparedPhoto]) -> dict[str, list[PreparedPhoto]]:
    """The faces of each panorama."""
    found: dict[str, list[PreparedPhoto]] = {}
    for photo in photos:
        if photo.face is not None:
            found.setdefault(photo.given, []).append(photo)
    return found


def _create(
    path: Path,
    photos: Sequence[PreparedPhoto],
    cameras: Mapping[str, Any],
    panoramas: Mapping[str, Sequence[PreparedPhoto]],
) -> None:
    rigs: dict[int, int] = {}
    with pycolmap.Database.open(path) as database:
        images = {}
        for photo in photos:
            camera = cameras[photo.name]
            if id(camera) not in rigs:
                camera.camera_id = database.write_camera(camera)
                rigs[id(camera)] = 0
            image = pycolmap.Image(name=photo.name, camera_id=camera.camera_id)
            image.image_id = database.write_image(image)
            images[photo.name] = image
        together = [*panoramas.values()]
        together += [[photo] for photo in photos if photo.given not in panoramas]
        for moving in together:
            camera = cameras[moving[0].name]
            if not rigs[id(camera)]:
                rigs[id(camera)] = database.write_rig(_rig(moving, cameras))
            frame = pycolmap.Frame()
            frame.rig_id = rigs[id(camera)]
            for photo in moving:
                frame.add_data_id(images[photo.name].data_id)
            database.write_frame(frame)


def _rig(moving: Sequence[PreparedPhoto], cameras: Mapping[str, Any]) -> Any:
    """The `pycolmap.Rig` of a photo, or of all faces of a panorama."""
    if len(moving) > 1:
        return panorama_rig(
            {
                photo.face.face: cameras[photo.name].camera_id
                for photo in moving
                if photo.face is not None
            }
        )
    rig = pycolmap.Rig()
    rig.add_ref_sensor(cameras[moving[0].name].sensor_id)
    return rig


def _marks(
    photos: Sequence[PreparedPhoto],
    cameras: Mapping[str, Any],
    settings: SfmSettings,
    masks: Mapping[str, str],
    pairing: str,
    seed: int,
    panoramas: Mapping[str, Sequence[PreparedPhoto]],
) -> dict[str, str]:
    order = {id(camera): index for index, camera in enumerate(cameras.values())}
    rows = [
        [
            photo.name,
            photo.pixel_hash,
            masks.get(photo.name),
            order[id(cameras[photo.name])],
            cameras[photo.name].model.name,
            list(cameras[photo.name].params),
            cameras[photo.name].has_prior_focal_length,
        ]
        for photo in photos
    ]
    moving = [[photo.name for photo in faces] for faces in panoramas.values()]
    sizes = (settings.max_features, settings.feature_image_size, WHOLE_PIXELS)
    features = _digest([rows, *moving, *sizes])
    matches = [features, pairing, settings.guided_matching, seed]
    return {"features": features, "matches": _digest(matches)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _read_marks(path: Path) -> dict[str, Any]:
    try:
        marks = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def _readable(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error:
        return False
    return bool(answer == "ok")
