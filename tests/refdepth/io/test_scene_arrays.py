"""Scenes as arrays that processes map into memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from exact_room import ExactRoom

from refdepth.io.scene_arrays import open_scene_arrays, write_scene_arrays
from refdepth.types.scene import Scene, SparsePoints


def _kept(folder: Path, scene: Scene, masks: Path | None = None) -> Scene:
    write_scene_arrays(folder, scene, "a model")
    found = open_scene_arrays(folder, scene.views[0].image_path.parent, masks, "a model")
    assert found is not None
    return found


def _without_points(scene: Scene) -> Scene:
    nothing = {"point_index": np.zeros(0, np.int64), "point_xy": np.zeros((0, 2))}
    return Scene([replace(view, **nothing) for view in scene.views], SparsePoints.empty())


def test_a_scene_comes_back_to_the_bit(room: ExactRoom, tmp_path: Path) -> None:
    found = _kept(tmp_path / "scene", room.scene)
    assert found.names == room.scene.names
    for name, values in vars(room.scene.points).items():
        kept = getattr(found.points, name)
        np.testing.assert_array_equal(kept, values)
        assert kept.dtype == values.dtype
    for view in room.scene.views:
        kept = found[view.name]
        assert (kept.camera.width, kept.camera.height) == (view.camera.width, view.camera.height)
        assert (kept.image_path, kept.mask_path) == (view.image_path, None)
        for name in ("cam_from_world", "point_index", "point_xy"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(view, name))
            assert getattr(kept, name).dtype == getattr(view, name).dtype
        np.testing.assert_array_equal(kept.camera.K, view.camera.K)


def test_a_scene_without_points_comes_back(room: ExactRoom, tmp_path: Path) -> None:
    found = _kept(tmp_path / "scene", _without_points(room.scene))
    assert len(found.points) == 0
    assert found.names == room.scene.names
    assert found.views[0].point_xy.shape == (0, 2)


def test_masks_are_those_that_are_there(room: ExactRoom, tmp_path: Path) -> None:
    first, second, *_ = room.scene.names
    (tmp_path / f"{second}.png").touch()
    found = _kept(tmp_path / "scene", room.scene, tmp_path)
    assert found[first].mask_path is None
    assert found[second].mask_path == tmp_path / f"{second}.png"


def test_what_was_made_from_another_model_is_none(room: ExactRoom, tmp_path: Path) -> None:
    write_scene_arrays(tmp_path / "scene", room.scene, "a model")
    assert open_scene_arrays(tmp_path / "scene", tmp_path, None, "another") is None
    assert open_scene_arrays(tmp_path / "nowhere", tmp_path, None, "a model") is None


def test_what_a_process_writes_into_it_stays_its_own(room: ExactRoom, tmp_path: Path) -> None:
    found = _kept(tmp_path / "scene", room.scene)
    found.points.xyz[:] = 0
    again = open_scene_arrays(tmp_path / "scene", tmp_path, None, "a model")
    assert again is not None
    np.testing.assert_array_equal(again.points.xyz, room.scene.points.xyz)


def test_points_and_views_may_be_of_any_number(room: ExactRoom, tmp_path: Path) -> None:
    one = Scene(_without_points(room.scene).views[:1], SparsePoints.empty())
    assert _kept(tmp_path / "scene", one).names == room.scene.names[:1]
