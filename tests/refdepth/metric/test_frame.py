"""The same scene in metres."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from wall_scene import wall_scene

from refdepth.metric.frame import MetricFrame, cameras_up, levelled
from refdepth.types.camera import invert_pose, transform


def test_depth_in_metres_lies_where_the_points_lie(tmp_path) -> None:
    scene, maps = wall_scene(tmp_path)
    frame = MetricFrame(
        scale=2.5,
        rotation=Rotation.from_euler("xyz", [0.3, 1, -2]).as_matrix(),
        translation=np.array([10.0, -20, 30]),
    )
    name = scene.names[1]
    before, after = scene[name], frame.scene(scene)[name]
    depth = maps[name].depth
    points = transform(invert_pose(before.cam_from_world), before.camera.unproject(depth))
    moved = after.camera.unproject(frame.depth(maps[name]).depth)
    moved = transform(invert_pose(after.cam_from_world), moved)
    assert_allclose(moved, frame.points(points), atol=1e-5)
    assert_allclose(transform(frame.matrix, points), frame.points(points))


def test_up_is_the_cameras_and_becomes_z(tmp_path) -> None:
    scene, _ = wall_scene(tmp_path)
    up = cameras_up(scene)
    assert_allclose(up, [0, -1, 0])
    for direction in (up, [0, 0, 1.0], [0, 0, -1.0], [0.6, 0, -0.8]):
        turn = levelled(np.array(direction))
        assert_allclose(turn @ direction, [0, 0, 1], atol=1e-12)
        assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) > 0
    assert_allclose(levelled(up) @ [1, 0, 0], [1, 0, 0], atol=1e-12)


def test_cameras_turned_all_ways_know_no_up(tmp_path) -> None:
    scene, _ = wall_scene(tmp_path)
    poses = [Rotation.from_euler("z", 72 * i, degrees=True).as_matrix() for i in range(5)]
    for view, pose in zip(scene.views, poses, strict=True):
        view.cam_from_world[:3, :3] = pose
    assert cameras_up(scene) is None
