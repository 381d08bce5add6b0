"""The wall with fine detail: what is said of bars and relief is so."""

import numpy as np
import pytest

from refdepth.synthetic import detail as rooms
from refdepth.synthetic.detail import BARS_M, WALL_M, Detail, make_detail
from refdepth.types.camera import invert_pose, transform

SIZE = {"width": 320, "height": 240}


@pytest.fixture(scope="module")
def wall() -> Detail:
    return make_detail(views=2, **SIZE)


def world_of(view, depth: np.ndarray) -> np.ndarray:
    return transform(invert_pose(view.cam_from_world), view.camera.unproject(depth))


def test_bars_have_their_widths_and_hang_before_the_wall(wall):
    for view in wall.scene.views:
        points = world_of(view, view.depth)
        for bar in wall.bars:
            on = view.surface == bar.surface
            if on.sum() < 30:  # thinner than a pixel
                continue
            across = points[on].max(axis=0) - points[on].min(axis=0)
            assert np.abs(points[on][:, 2] - BARS_M).max() < bar.width / 2 + 1e-4
            assert min(across[:2]) < bar.width + 1e-4
            assert bar.width < 0.01 or max(across[:2]) > 0.7


def test_ridges_stand_out_from_their_boards_by_their_heights(wall):
    view = wall.scene.views[0]
    seen, below = (world_of(view, depth)[..., 2] for depth in (view.depth, wall.base_depth(view)))
    for relief in wall.reliefs:
        board, ridge = (view.surface == surface for surface in relief.surfaces)
        front = np.median(seen[board])
        assert front < WALL_M
        assert np.abs(seen[ridge].min() - (front - relief.height)) < 1e-4
        assert np.allclose(below[ridge], front, atol=1e-4)
        assert np.array_equal(below[board], seen[board])


def test_all_sizes_show_the_same_and_parts_of_a_picture_fit(wall, monkeypatch):
    large = make_detail(views=1, width=640, height=480)
    ours, theirs = wall.scene.views[0], large.scene.views[0]
    assert np.array_equal(ours.cam_from_world, theirs.cam_from_world)
    same = theirs.surface[::2, ::2] == ours.surface
    assert same.mean() > 0.95
    monkeypatch.setattr(rooms, "_TILE", 1000)
    whole = make_detail(views=1, **SIZE).scene.views[0]
    assert np.abs(whole.depth / ours.depth - 1).max() < 1e-5
    assert np.mean(whole.image == ours.image) > 0.999
