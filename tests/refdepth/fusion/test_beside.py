"""Faces of one panorama at their common border, on a surface measured a little apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.fusion import FusionSettings, draw_together
from refdepth.fusion.beside import beside_of, fade_into
from refdepth.geometry.photo_grid import sample_depth
from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face, face_focal_px
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparsePoints, View

SIDE = 120
APART = 0.006


def face_view(face: Face, x: float) -> View:
    focal = face_focal_px(SIDE)
    K = np.array([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]])
    turn = FACE_FROM_PANORAMA[face]
    return View(
        name=f"{x:g}/{face}.png",
        camera=PinholeCamera(K=K, width=SIDE, height=SIDE),
        cam_from_world=pose_matrix(turn, -turn @ np.array([x, 0, 0])),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=Path("none.png"),
    )


@pytest.fixture
def faces() -> Scene:
    """The front and right faces of two panoramas."""
    views = [face_view(face, x) for x in (0.0, 1.0) for face in (Face.FRONT, Face.RIGHT)]
    points = SparsePoints(
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        track_length=np.zeros(0, np.int64),
    )
    return Scene(views, points)


def sphere(view: View, radius: float) -> np.ndarray:
    """Depth of a sphere around the view."""
    return (radius / np.linalg.norm(view.camera.rays(), axis=-1)).astype(np.float32)


def at_border(front: np.ndarray, right: np.ndarray, offset_deg: float) -> tuple[float, float]:
    """Distance by each face of what lies so far to the right of their common border."""
    angle, found = np.radians(45 + offset_deg), []
    for face, depth in ((Face.FRONT, front), (Face.RIGHT, right)):
        x, _, z = FACE_FROM_PANORAMA[face] @ np.array([np.sin(angle), 0, np.cos(angle)])
        xy = np.array([[SIDE / 2 + face_focal_px(SIDE) * x / z, SIDE / 2]])
        found.append(float(sample_depth(depth, xy)[0] / z))
    return found[0], found[1]


def faded(faces: Scene, radii: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    front, right = faces.views[:2]
    given = {v.name: sphere(v, r) for v, r in zip((front, right), radii, strict=True)}

    def load(name: str) -> DepthMap:
        return DepthMap(depth=given[name], confidence=np.ones_like(given[name]))

    results = [
        draw_together(view, [], load, FusionSettings(), beside_of(view, faces)).depth_map.depth
        for view in (front, right)
    ]
    return results[0], results[1]


def test_faces_of_one_panorama_are_beside_each_other(faces: Scene) -> None:
    front, right, *_ = faces.views
    assert beside_of(front, faces) == [right]
    assert beside_of(right, faces) == [front]


def test_a_surface_goes_on_without_a_step_from_face_to_face(faces: Scene) -> None:
    front, right = faded(faces, (4.0, 4.0 * (1 + APART)))
    for offset in (-1.5, 0.0, 1.5):
        here, there = at_border(front, right, offset)
        assert there / here == pytest.approx(1, abs=0.1 * APART)
    middle, _ = at_border(front, right, 0.0)
    assert middle == pytest.approx(4 * (1 + APART / 2), rel=0.1 * APART)
    # From pixel to pixel it is even, and where only one face looks nothing has changed.
    across = front[SIDE // 2] * np.linalg.norm(faces.views[0].camera.rays()[SIDE // 2], axis=-1)
    assert np.abs(np.diff(across)).max() < 0.4 * 4 * APART
    assert np.abs(across[: SIDE // 2] - 4).max() < 1e-4
    assert across[-1] == pytest.approx(4 * (1 + APART), rel=0.2 * APART)


def test_surfaces_that_are_not_the_same_stay_as_they_are(faces: Scene) -> None:
    front, right = faces.views[:2]
    found = faded(faces, (4.0, 4.2))
    np.testing.assert_allclose(found[0], sphere(front, 4.0), rtol=1e-6)
    np.testing.assert_allclose(found[1], sphere(right, 4.2), rtol=1e-6)


def test_what_is_unknown_stays_unknown_and_draws_nothing(faces: Scene) -> None:
    front, right = faces.views[:2]
    depth = sphere(front, 4.0)
    depth[:, -3:] = 0
    nothing = np.zeros_like(depth)

    def load(name: str) -> DepthMap:
        return DepthMap(depth=nothing, confidence=nothing)

    assert fade_into(front, [right], depth, load, 0.01) is depth

    def known(name: str) -> DepthMap:
        return DepthMap(depth=sphere(right, 4.01), confidence=nothing)

    after = fade_into(front, [right], depth, known, 0.01)
    np.testing.assert_array_equal(after == 0, depth == 0)
