"""EXR, read by OpenEXR."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal

from refdepth.errors import UnavailableError
from refdepth.io.depth_sets import DepthFile, write_depth_set
from refdepth.types.camera import transform


def test_depth_normals_and_positions_survive(room: ExactRoom, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    view = room.scene.views[1]
    write_depth_set(tmp_path, room.scene, room.load, kinds=[DepthFile.EXR], names=[view.name])
    with openexr.File(str(tmp_path / "exr" / f"{view.name}.exr"), separate_channels=True) as file:
        header = dict(file.header())
        maps = {name: channel.pixels for name, channel in file.channels().items()}
    assert all(values.dtype == np.float32 for values in maps.values())
    assert_array_equal(maps["Z"], room.depth[view.name])
    assert_array_equal(maps["confidence"], room.load(view.name).confidence)
    assert_allclose(json.loads(header["refdepth.K"]), view.camera.K)
    assert header["refdepth.unit"] == "SfM units"
    assert header["refdepth.depth"] == "z along the optical axis"
    known = maps["Z"] > 0
    world = np.stack([maps[f"P.{axis}"] for axis in "XYZ"], axis=-1)
    xy, z = view.camera.project(transform(view.cam_from_world, world[known]))
    assert_allclose(xy, view.camera.pixel_grid()[known], atol=0.01)
    assert_allclose(z, maps["Z"][known], rtol=1e-5)
    normals = np.stack([maps[f"N.{axis}"] for axis in "XYZ"], axis=-1)
    known = normals.any(axis=-1)
    assert known.mean() > 0.9
    assert_allclose(np.linalg.norm(normals[known], axis=-1), 1, atol=1e-5)
    towards = ((view.center - world) * normals).sum(axis=-1)
    assert (towards[known] > 0).mean() > 0.99


def test_without_openexr_it_says_what_to_install(
    room: ExactRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[exr\]"):
        write_depth_set(tmp_path, room.scene, room.load, kinds=[DepthFile.EXR])
