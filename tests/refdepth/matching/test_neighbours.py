"""Which neighbours are chosen, on cameras placed by hand."""

from pathlib import Path

import numpy as np
import pytest

from refdepth.matching.neighbours import BEST_ANGLE_DEG, closest_views, select_sources
from refdepth.types.camera import PinholeCamera, invert_pose, pose_matrix
from refdepth.types.scene import Scene, SparsePoints, View

CAMERA = PinholeCamera(K=np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), width=100, height=80)


def _scene(
    offsets_deg: dict[str, float], *, observed: dict[str, list[int]], n_points: int
) -> Scene:
    """Cameras at distance 10 from a cloud around the origin, each turned by an angle about y."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (n_points, 3))
    views = []
    for name, degrees in offsets_deg.items():
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        world_from_cam = pose_matrix(rotation, rotation @ [0, 0, -10.0])
        index = np.array(observed.get(name, []), dtype=np.int64)
        views.append(
            View(
                name=name,
                camera=CAMERA,
                cam_from_world=invert_pose(world_from_cam),
                point_index=index,
                point_xy=np.full((len(index), 2), 30.0),
                image_path=Path(name),
            )
        )
    points = SparsePoints(
        xyz=xyz,
        rgb=np.zeros((n_points, 3), np.uint8),
        error_px=np.zeros(n_points),
        track_length=np.full(n_points, 3),
    )
    return Scene(views, points)


def test_the_best_angle_comes_first_and_the_view_itself_never():
    everyone = {name: list(range(40)) for name in "abcd"}
    scene = _scene({"a": 0, "b": 0.5, "c": BEST_ANGLE_DEG, "d": 40}, observed=everyone, n_points=40)
    assert select_sources(scene, scene["a"], 5) == ("c", "b", "d")
    assert select_sources(scene, scene["a"], 1) == ("c",)


def test_the_closest_views_go_by_distance_alone():
    scene = _scene({"a": 0, "b": 9, "c": -2, "d": 4, "e": 2}, observed={}, n_points=5)
    assert closest_views(scene, scene["a"], 3, ()) == ("c", "e", "d")  # equally close: by name
    assert closest_views(scene, scene["a"], 3, ("c", "d")) == ("e", "b")
    assert closest_views(scene, scene["a"], 0, ()) == ()


def test_sharing_points_beats_a_better_angle():
    observed = {"a": list(range(40)), "b": list(range(40)), "c": []}
    scene = _scene({"a": 0, "b": 9, "c": BEST_ANGLE_DEG}, observed=observed, n_points=40)
    assert select_sources(scene, scene["a"], 2) == ("b", "c")


@pytest.mark.parametrize("n_points", [0, 5])
def test_poses_alone_are_enough(n_points):
    observed = {name: list(range(n_points)) for name in "abc"}
    scene = _scene({"a": 0, "b": BEST_ANGLE_DEG, "c": 180}, observed=observed, n_points=n_points)
    chosen = select_sources(scene, scene["a"], 3)
    assert chosen[0] == "b"


def test_a_view_that_looks_away_is_left_out():
    scene = _scene({"a": 0, "b": 5}, observed={"a": list(range(40))}, n_points=40)
    away = scene["b"]
    turned = pose_matrix(np.diag([-1.0, 1.0, -1.0]), np.zeros(3)) @ away.cam_from_world
    lost = View(
        name="lost",
        camera=CAMERA,
        cam_from_world=turned,
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=Path("lost"),
    )
    scene = Scene([*scene.views, lost], scene.points)
    assert "lost" not in select_sources(scene, scene["a"], 5)
