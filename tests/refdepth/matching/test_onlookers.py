"""Which faces of the neighbours' panoramas tell their depth, on panoramas placed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face, face_focal_px
from refdepth.matching.neighbours import onlookers
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.scene import Scene, SparsePoints, View

SIDE = 60
PLACES = {"a": 0.0, "b": 0.4, "c": 0.8, "d": 1.2}


def face_view(place: str, face: Face) -> View:
    focal = face_focal_px(SIDE)
    turn = FACE_FROM_PANORAMA[face]
    return View(
        name=f"{place}-{face}",
        camera=PinholeCamera(
            K=np.array([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]]),
            width=SIDE,
            height=SIDE,
        ),
        cam_from_world=pose_matrix(turn, -turn @ np.array([PLACES[place], 0.0, 0.0])),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=Path("none.png"),
    )


def around(radius: float) -> SparsePoints:
    """Points on a sphere around the first panorama."""
    rays = np.random.default_rng(0).normal(size=(400, 3))
    xyz = radius * rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return SparsePoints(
        xyz=xyz,
        rgb=np.zeros((400, 3), np.uint8),
        error_px=np.zeros(400),
        track_length=np.full(400, 3),
    )


@pytest.fixture
def walk() -> Scene:
    """Four panoramas of six faces in a row, to the right, in a room of 3 m around."""
    return Scene([face_view(place, face) for place in PLACES for face in Face], around(3.0))


def test_faces_beside_the_sources_that_see_the_picture_have_a_say(walk: Scene) -> None:
    found = onlookers(walk, walk["a-up"], ["b-up", "c-up"], [], 16)
    # From further to the right, what is above here lies to the left. Faces reach a little over the
    # cube's edges, so that all but the one below see a border of the picture from the same place.
    assert {name for name in found if name[0] == "a"} == {
        f"a-{face}" for face in (Face.LEFT, Face.RIGHT, Face.FRONT, Face.BACK)
    }
    assert found[:2] == ("c-left", "b-left")
    assert not {"b-right", "c-right", "a-down", "b-down", "c-down"} & {*found}
    assert onlookers(walk, walk["a-up"], ["b-up", "c-up"], [], 1) == ("c-left",)
    assert onlookers(walk, walk["a-up"], ["b-up", "c-up"], [], 0) == ()


def test_neither_the_view_its_sources_nor_the_judges_panorama(walk: Scene) -> None:
    sources = ["b-up", "b-left", "c-up"]
    found = onlookers(walk, walk["a-up"], sources, ["c-left"], 16)
    assert not {"a-up", *sources} & {*found}
    assert {name[0] for name in found} == {"a", "b"}


def test_photos_have_none(walk: Scene) -> None:
    photos = Scene([walk[f"{place}-up"] for place in PLACES], walk.points)
    assert onlookers(photos, photos["a-up"], ["b-up", "c-up"], ["d-up"], 16) == ()
    assert onlookers(photos, photos["a-up"], [], [], 16) == ()
