"""Depth exports, read by Pillow, NumPy and Open3D."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from refdepth.io.depth_sets import DepthFile, write_depth_set
from refdepth.types.depth_map import DepthMap


@pytest.fixture(scope="module")
def folder(room: ExactRoom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("depth")
    write_depth_set(folder, room.scene, room.load, kinds=tuple(DepthFile), metres_per_unit=2.0)
    return folder


def test_16_bit_pictures_hold_depth_over_the_written_scale(room: ExactRoom, folder: Path) -> None:
    index = json.loads((folder / "depth.json").read_text())
    unit = index["png16"]["units_per_level"]
    for name in room.scene.names:
        levels = np.asarray(o3d.io.read_image(str(folder / "png16" / f"{name}.png")))
        assert levels.dtype == np.uint16
        assert_allclose(levels * unit, room.depth[name], atol=0.51 * unit)


def test_float_files_hold_depth_exactly(room: ExactRoom, folder: Path) -> None:
    name = room.scene.names[0]
    with Image.open(folder / "tiff32" / f"{name}.tiff") as picture:
        assert picture.mode == "F"
        assert_array_equal(np.asarray(picture), room.depth[name])
    with np.load(folder / "npz" / f"{name}.npz") as stored:
        assert_array_equal(stored["depth"], room.depth[name])
        assert_array_equal(stored["confidence"], room.load(name).confidence)


def test_the_index_says_unit_cameras_and_that_pictures_are_not_data(
    room: ExactRoom, folder: Path
) -> None:
    index = json.loads((folder / "depth.json").read_text())
    assert index["unit"] == "SfM units"
    assert index["metres_per_unit"] == 2.0
    assert "not data" in index["pictures"]
    view = room.scene.views[0]
    assert_allclose(index["views"][view.name]["cam_from_world"], view.cam_from_world)
    assert_allclose(index["views"][view.name]["K"], view.camera.K)


def test_unknown_depth_is_zero_and_grey(room: ExactRoom, tmp_path: Path) -> None:
    def load(name: str) -> DepthMap:
        found = room.load(name)
        depth = found.depth.copy()
        depth[:20] = 0
        return DepthMap(depth=depth, confidence=np.where(depth > 0, found.confidence, 0))

    name = room.scene.names[0]
    write_depth_set(tmp_path, room.scene, load, kinds=tuple(DepthFile), names=[name])
    with Image.open(tmp_path / "png16" / f"{name}.png") as picture:
        assert (np.asarray(picture)[:20] == 0).all()
    with Image.open(tmp_path / "pictures" / f"{name}.jpg") as picture:
        assert_allclose(np.asarray(picture)[:16].astype(int), 128, atol=6)
    assert [p.name for p in (tmp_path / "png16").iterdir()] == [f"{name}.png"]
