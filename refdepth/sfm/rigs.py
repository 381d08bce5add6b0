"""Panoramas as rigs: six faces around one centre, whose cameras and places on the rig are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face
from refdepth.ingest.photos import PreparedPhoto


def face_cameras(photos: Iterable[PreparedPhoto]) -> dict[str, Any]:
    """The `pycolmap.Camera` of each face among `photos`, by name. Every face of the cube has its
    own, which all panoramas of a size share: a rig knows its sensors by their cameras."""
    shared: dict[tuple[Face, int], Any] = {}
    found = {}
    for photo in photos:
        if photo.face is None:
            continue
        key = photo.face.face, photo.width
        if key not in shared:
            camera = pycolmap.Camera.create_from_model_name(
                0, "PINHOLE", photo.focal_px, photo.width, photo.height
            )
            camera.has_prior_focal_length = True
            shared[key] = camera
        found[photo.name] = shared[key]
    return found


def panorama_rig(camera_ids: Mapping[Face, int]) -> Any:
    """The `pycolmap.Rig` of cameras in the database; it stands where the front face does."""
    rig = pycolmap.Rig()
    rig.add_ref_sensor(_sensor(camera_ids[Face.FRONT]))
    for face, camera_id in camera_ids.items():
        if face is not Face.FRONT:
            turn = pycolmap.Rotation3d(FACE_FROM_PANORAMA[face])
            rig.add_sensor(_sensor(camera_id), pycolmap.Rigid3d(turn, np.zeros(3)))
    return rig


def rigid(rigs: Iterable[Any]) -> tuple[set[int], set[int]]:
    """Of the rigs in a database or model: ids of those that are panoramas, and of their cameras.
    Neither is to be refined."""
    known = [rig for rig in rigs if rig.num_sensors() > 1]
    cameras = {sensor.id for rig in known for sensor in rig.sensor_ids()}
    return {rig.rig_id for rig in known}, cameras


def rigid_in(database: Path) -> tuple[set[int], set[int]]:
    """The same of a database."""
    with pycolmap.Database.open(database) as opened:
        return rigid(opened.read_all_rigs())


def _sensor(camera_id: int) -> Any:
    return pycolmap.sensor_t(type=pycolmap.SensorType.CAMERA, id=camera_id)
