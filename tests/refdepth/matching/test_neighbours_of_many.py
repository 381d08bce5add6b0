"""The same neighbours as by scoring every view for every view, with a fraction of the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.matching import neighbours
from refdepth.matching.neighbours import (
    BEST_ANGLE_DEG,
    NARROW_DEG,
    UNSEEN_WEIGHT,
    WIDE_DEG,
    closest_views,
    select_sources,
)
from refdepth.types.camera import PinholeCamera, invert_pose, pose_matrix, transform
from refdepth.types.scene import Scene, SparsePoints, View

CAMERA = PinholeCamera(
    K=np.array([[400.0, 0, 240], [0, 400, 180], [0, 0, 1]]), width=480, height=360
)


def street(count: int, *, seen: float = 0.6, seed: int = 0) -> Scene:
    """Views every half metre along a wall 6 m away, each of which finds a share of the points in
    its picture."""
    rng = np.random.default_rng(seed)
    n = 20 * count
    xyz = np.column_stack(
        [rng.uniform(-8, count / 2 + 8, n), rng.uniform(-5, 1.5, n), rng.uniform(5.5, 6.5, n)]
    )
    views = []
    tracks = np.zeros(n, np.int64)
    for row in range(count):
        center = np.array([row / 2, rng.normal(0, 0.1), rng.normal(0, 0.2)])
        cam_from_world = invert_pose(pose_matrix(np.eye(3), center))
        near = np.flatnonzero(np.abs(xyz[:, 0] - center[0]) < 7)
        xy, _ = CAMERA.project(transform(cam_from_world, xyz[near]))
        found = CAMERA.contains(xy) & (rng.random(len(near)) < seen)
        tracks[near[found]] += 1
        views.append(
            View(
                name=f"{row:05d}",
                camera=CAMERA,
                cam_from_world=cam_from_world,
                point_index=near[found],
                point_xy=xy[found],
                image_path=Path("none"),
            )
        )
    points = SparsePoints(
        xyz=xyz, rgb=np.zeros((n, 3), np.uint8), error_px=np.zeros(n), track_length=tracks
    )
    return Scene(views, points)


def by_brute_force(scene: Scene, view: View, count: int) -> tuple[str, ...]:
    """Every other view scored on every point that `view` sees, as the docstring says."""
    points = scene.points.xyz[view.point_index]
    scores = []
    for other in scene.views:
        if other.name == view.name:
            continue
        score = 0.0
        a, b = points - view.center, points - other.center
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        angle = np.degrees(np.arccos(np.clip((a * b).sum(axis=1) / lengths, -1, 1)))
        spread = np.where(angle < BEST_ANGLE_DEG, NARROW_DEG, WIDE_DEG)
        goodness = np.exp(-0.5 * ((angle - BEST_ANGLE_DEG) / spread) ** 2)
        xy, _ = other.camera.project(transform(other.cam_from_world, points))
        inside = other.camera.contains(xy)
        observed = np.isin(view.point_index, other.point_index)
        score = float((goodness * np.where(observed, 1.0, UNSEEN_WEIGHT * inside)).sum())
        if score > 1e-6 * len(points):
            scores.append((-score, other.name))
    return tuple(name for _, name in sorted(scores)[:count])


@pytest.mark.parametrize("count", [1, 9, 30])
def test_a_street_has_the_sources_of_brute_force(count: int) -> None:
    scene = street(90)
    for view in scene.views[::10]:
        assert select_sources(scene, view, count) == by_brute_force(scene, view, count)


def test_views_that_observe_nothing_in_common_still_enter() -> None:
    scene = street(80)
    blind = scene.views[41]
    alone = View(
        name=blind.name,
        camera=CAMERA,
        cam_from_world=blind.cam_from_world,
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=blind.image_path,
    )
    scene = Scene([alone if view is blind else view for view in scene.views], scene.points)
    view = scene.views[40]
    chosen = select_sources(scene, view, 40)
    assert alone.name in chosen
    assert chosen == by_brute_force(scene, view, 40)
    assert len(select_sources(scene, alone, 9)) == 9  # and a view without points has sources


def test_a_view_is_projected_into_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = street(400)
    asked = []
    project = PinholeCamera.project
    monkeypatch.setattr(
        PinholeCamera, "project", lambda self, points: asked.append(1) or project(self, points)
    )
    for view in scene.views[::20]:
        select_sources(scene, view, 9)
    assert len(asked) < 40 * len(scene.views[::20])


def test_beyond_the_nearest_only_views_with_common_points_are_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = street(60, seen=0.02)  # next to no common points: geometry decides
    monkeypatch.setattr(neighbours, "NEAREST", 6)
    view = scene.views[30]
    shared = {v.name for v in scene.views if np.isin(v.point_index, view.point_index).any()}
    nearest = set(closest_views(scene, view, 6, ()))
    assert set(select_sources(scene, view, 50)) <= shared | nearest
    assert nearest <= set(select_sources(scene, view, 50))


@pytest.mark.parametrize("count", [1, 4, 70])
def test_the_closest_views_are_those_of_brute_force(count: int) -> None:
    scene = street(60)
    for view in scene.views[::7]:
        besides = (scene.views[20].name, scene.views[21].name)
        exact = sorted(
            (float(np.linalg.norm(other.center - view.center)), other.name)
            for other in scene.views
            if other.name != view.name and other.name not in besides
        )
        expected = tuple(name for _, name in exact[:count])
        assert closest_views(scene, view, count, besides) == expected


def test_who_observes_a_point_is_known_once_a_view() -> None:
    scene = street(30)
    twice = scene.views[3]
    doubled = View(
        name=twice.name,
        camera=CAMERA,
        cam_from_world=twice.cam_from_world,
        point_index=np.concatenate([twice.point_index, twice.point_index[:5]]),
        point_xy=np.concatenate([twice.point_xy, twice.point_xy[:5]]),
        image_path=twice.image_path,
    )
    scene = Scene([doubled if view is twice else view for view in scene.views], scene.points)
    start, views = scene.observers
    for point in range(0, len(scene.points), 7):
        expected = [row for row, v in enumerate(scene.views) if point in v.point_index]
        assert views[start[point] : start[point + 1]].tolist() == expected
