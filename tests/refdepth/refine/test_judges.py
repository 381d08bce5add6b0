"""Which SfM points judge, on cameras and points whose uncertainty is known."""

from pathlib import Path

import numpy as np
import pytest

from refdepth.refine.judges import LEAST_POINTS, MOST_UNCERTAIN, Judges, chosen
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import Scene, SparsePoints, View

FOCAL = 500.0
CAMERA = PinholeCamera(
    K=np.array([[FOCAL, 0, 320], [0, FOCAL, 240], [0, 0, 1]]), width=640, height=480
)


def scene_of(xyz: np.ndarray, centers: np.ndarray, error_px: float = 0.5) -> Scene:
    """Cameras at `centers` that look along z and see every point."""
    count = len(xyz)
    views = []
    for number, center in enumerate(centers):
        pose = np.eye(4)
        pose[:3, 3] = -center
        views.append(
            View(
                name=f"{number}.png",
                camera=CAMERA,
                cam_from_world=pose,
                point_index=np.arange(count),
                point_xy=CAMERA.project(xyz - center)[0],
                image_path=Path(),
            )
        )
    points = SparsePoints(
        xyz=xyz,
        rgb=np.zeros((count, 3), np.uint8),
        error_px=np.full(count, error_px),
        track_length=np.full(count, len(centers)),
    )
    return Scene(views, points)


def along_z(distance: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(distance), np.zeros_like(distance), distance], axis=1)


def beside(baseline: float) -> np.ndarray:
    return np.array([[-baseline / 2, 0, 0], [0, 0, 0], [baseline / 2, 0, 0]])


def test_a_share_of_the_points_is_left_out_spread_over_all_of_them() -> None:
    out = chosen(20_000, 0.2)
    assert out.mean() == pytest.approx(0.2, abs=0.002)
    assert out.reshape(200, 100).sum(axis=1).std() < 2  # a coin for each would give 4
    assert not chosen(1000, 0.0).any()


def test_every_view_leaves_out_the_same_and_is_given_the_rest() -> None:
    scene = scene_of(along_z(np.linspace(2, 3, 1000)), beside(1.0))
    judges = Judges(scene, 0.2)
    for view in scene.views:
        given, left = judges.given(view).point_index, judges.of(view).point_index
        assert sorted([*given, *left]) == list(range(1000))
        np.testing.assert_array_equal(left, np.flatnonzero(chosen(1000, 0.2)))


@pytest.mark.parametrize("count", [0, LEAST_POINTS - 1])
def test_where_points_are_few_none_is_left_out(count: int) -> None:
    scene = scene_of(along_z(np.linspace(2, 3, count)), beside(1.0))
    judges = Judges(scene, 0.2)
    assert len(judges.given(scene.views[0])) == count
    assert len(judges.of(scene.views[0])) == 0


def test_points_judge_up_to_the_distance_at_which_their_depth_is_uncertain() -> None:
    """In the middle camera, cameras half a baseline b to both sides: sigma_z = z^2 / (f b / 2) /
    sqrt(2) for a pixel in each, a little more where rays are long and steep."""
    baseline, distance = 0.5, np.linspace(1, 4, 3000)
    scene = scene_of(along_z(distance), beside(baseline))
    left = Judges(scene, 0.2).of(scene.views[1])
    limit = MOST_UNCERTAIN * FOCAL * (baseline / 2) * np.sqrt(2)
    assert left.depth.max() == pytest.approx(limit, rel=0.03)
    expected = chosen(3000, 0.2) & (distance < left.depth.max() + 1e-9)
    assert len(left) == expected.sum()


@pytest.mark.parametrize(("views", "error_px"), [(2, 0.5), (3, 1.5)])
def test_points_of_two_views_or_with_large_errors_do_not_judge(views: int, error_px: float) -> None:
    scene = scene_of(along_z(np.linspace(1, 1.5, 1000)), beside(1.0)[:views], error_px)
    assert len(Judges(scene, 0.2).of(scene.views[0])) == 0
