"""OpenMVS's depth maps, read byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal

from refdepth.errors import InputError
from refdepth.io.dmap import write_dmap
from refdepth.types.depth_map import DepthMap


def read_dmap(path: Path) -> dict[str, Any]:
    """What stands in the file, in the order that OpenMVS 2.3 writes it."""
    data, at = path.read_bytes(), 0

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(data, kind, count, at)
        at += values.nbytes
        return values

    found: dict[str, Any] = {"name": take("S1", 2).tobytes(), "type": take("u1", 2)[0]}
    found["image_size"], found["size"] = take("<u4", 2), take("<u4", 2)
    found["range"] = take("<f4", 2)
    found["image"] = take("u1", int(take("<u2", 1)[0])).tobytes().decode()
    found["ids"] = take("<u4", int(take("<u4", 1)[0]))
    found["K"], found["R"] = take("<f8", 9).reshape(3, 3), take("<f8", 9).reshape(3, 3)
    found["C"] = take("<f8", 3)
    width, height = (int(side) for side in found["size"])
    found["depth"] = take("<f4", width * height).reshape(height, width)
    found["normals"] = take("<f4", width * height * 3).reshape(height, width, 3)
    found["confidence"] = take("<f4", width * height).reshape(height, width)
    assert at == len(data)
    return found


def test_all_that_openmvs_reads_is_there(room: ExactRoom, tmp_path: Path) -> None:
    view = room.scene.views[2]
    path, expected = tmp_path / "depth0003.dmap", room.load(view.name)
    write_dmap(path, view, expected, image=f"images/{view.name}", image_ids=[3, 2, 4])
    found = read_dmap(path)
    assert (found["name"], found["type"]) == (b"DR", 7)
    width, height = view.camera.width, view.camera.height
    assert list(found["image_size"]) == list(found["size"]) == [width, height]
    assert found["image"] == f"images/{view.name}"
    assert list(found["ids"]) == [3, 2, 4]
    assert_array_equal(found["depth"], expected.depth)
    assert_array_equal(found["confidence"], expected.confidence)
    known = expected.depth[expected.depth > 0]
    assert_array_equal(found["range"], [known.min(), known.max()])


def test_a_pixel_unprojects_where_ours_does(room: ExactRoom, tmp_path: Path) -> None:
    """X = R^T (K^-1 (column, row, 1) depth) + C: OpenMVS has pixel centres at whole numbers."""
    view = room.scene.views[2]
    path = tmp_path / "depth0003.dmap"
    write_dmap(path, view, room.load(view.name), image="i", image_ids=[3])
    found = read_dmap(path)
    ours = view.camera.unproject(found["depth"])
    for row, column in ((0, 0), (50, 70), (119, 159)):
        local = np.linalg.inv(found["K"]) @ [column, row, 1] * found["depth"][row, column]
        world = found["R"].T @ local + found["C"]
        expected = np.linalg.inv(view.cam_from_world) @ [*ours[row, column], 1]
        assert_allclose(world, expected[:3], rtol=1e-6, atol=1e-9)


def test_normals_look_at_the_camera(room: ExactRoom, tmp_path: Path) -> None:
    view = room.scene.views[2]
    path = tmp_path / "depth0003.dmap"
    write_dmap(path, view, room.load(view.name), image="i", image_ids=[3])
    normals = read_dmap(path)["normals"]
    known = normals.any(axis=-1)
    assert known.mean() > 0.9
    assert_allclose(np.linalg.norm(normals[known], axis=-1), 1, atol=1e-5)
    assert ((normals * view.camera.rays()).sum(axis=-1)[known] < 0).mean() > 0.99


def test_a_view_without_depth_is_refused(room: ExactRoom, tmp_path: Path) -> None:
    view = room.scene.views[0]
    zero = np.zeros(view.camera.shape, np.float32)
    empty = DepthMap(depth=zero, confidence=zero)
    with pytest.raises(InputError, match=f"{view.name}: has no depth.*--min-confidence"):
        write_dmap(tmp_path / "x.dmap", view, empty, image="i", image_ids=[1])
