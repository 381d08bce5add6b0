"""Points that views at one place give each other, against a plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refdepth.priors.beside import with_points_beside
from refdepth.synthetic import make_scene
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.scene import Scene, View

PLANE = np.array([0.3, 0.4, 0.5])
"""PLANE . X = 1 in the world."""
CENTER = np.array([0.2, -0.3, 0.1])


def turned(name: str, degrees: float, like: View) -> View:
    """A view from CENTER, turned about its vertical axis."""
    angle = np.deg2rad(degrees)
    turn = np.array(
        [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    )
    K = np.array([[80.0, 0, 80], [0, 80, 80], [0, 0, 1]])
    return replace(
        like,
        name=name,
        camera=PinholeCamera(K=K, width=160, height=160),
        cam_from_world=pose_matrix(turn, -turn @ CENTER),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
    )


def exact(view: View, xy: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Depth of the plane, in which CENTER + depth * ray lies."""
    rays = view.camera.rays(xy) @ view.cam_from_world[:3, :3]
    return (1 - PLANE @ CENTER) / (rays @ PLANE)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    given = make_scene(views=1, width=64, height=48).to_scene(tmp_path)
    (like,) = given.views
    views = tuple(turned(f"{angle}", angle, like) for angle in (0, 45, 150))
    return Scene(views=views, points=given.points)


def test_points_lie_where_the_pictures_overlap_and_have_this_views_depth(scene: Scene) -> None:
    def depth_of(name: str) -> NDArray[np.float32]:
        depth = exact(scene[name]).astype(np.float32)
        return np.where(depth > 0, depth, 0)

    points = with_points_beside(scene, scene["0"], ["45"], depth_of)
    assert len(points) > 500
    # The other sees from 0 to 90 degrees, this one from -45 to 45.
    assert points.xy[:, 0].min() > 79
    assert points.xy[:, 0].max() > 155
    np.testing.assert_allclose(points.depth, exact(scene["0"], points.xy), rtol=1e-5)
    assert set(points.point_index) == {-1}
    assert len(with_points_beside(scene, scene["0"], ["150"], depth_of)) == 0


def test_without_others_they_are_the_views_own(tmp_path: Path) -> None:
    given = make_scene(views=2, width=64, height=48).to_scene(tmp_path)
    own = given.sparse_depth(given.views[0])
    found = with_points_beside(given, given.views[0], [], lambda name: np.zeros((1, 1), np.float32))
    for name, values in vars(own).items():
        np.testing.assert_array_equal(getattr(found, name), values)
