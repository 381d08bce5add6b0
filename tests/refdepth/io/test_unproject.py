"""Unprojection, and what docs/formats.md says to run in Blender and for CloudCompare."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal

from refdepth import unproject
from refdepth.io.depth_sets import DepthFile, write_depth_set
from refdepth.types.camera import transform

DOCUMENT = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
K = np.array([[100.0, 0, 33], [0, 80, 21], [0, 0, 1]])


def test_by_hand() -> None:
    """The centre of pixel (row 1, column 2) is (2.5, 1.5); the camera stands at (0, 0, -5)."""
    depth = np.zeros((2, 3))
    depth[1, 2] = 4
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5]]
    points = unproject(depth, K, pose)
    assert points.shape == (2, 3, 3)
    assert_allclose(points[1, 2], [(2.5 - 33) / 100 * 4, (1.5 - 21) / 80 * 4, 4 - 5])
    assert np.isnan(points).all(axis=-1).sum() == 5


def test_ray_depth_is_the_distance_from_the_camera() -> None:
    depth = np.full((4, 5), 2.0)
    points = unproject(depth, K, np.eye(4), ray_depth=True)
    assert_allclose(np.linalg.norm(points, axis=-1), 2)


@pytest.mark.parametrize(("depth", "pose"), [(np.ones(3), np.eye(4)), (np.ones((2, 2)), np.eye(3))])
def test_other_shapes_are_refused(depth: Any, pose: Any) -> None:
    with pytest.raises(ValueError, match=r"must be \("):
        unproject(depth, K, pose)


@pytest.fixture
def export(room: ExactRoom, tmp_path: Path) -> Path:
    folder = tmp_path / "depth"
    write_depth_set(folder, room.scene, room.load, kinds=[DepthFile.NPZ])
    return folder


def snippet(word: str, folder: Path, photo: Path) -> str:
    """The block of the documentation that holds `word`, about the view whose photo this is."""
    (found,) = [
        block for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.S) if word in block
    ]
    code = found.replace("OUT/export/depth", str(folder))
    code = code.replace("OUT/sfm/undistorted/images/IMG_0001.jpg", str(photo))
    return code.replace("IMG_0001.jpg", photo.name).replace("IMG_0001", photo.stem)


def test_the_points_for_cloudcompare_lie_on_their_pixels(
    room: ExactRoom, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = room.scene.views[3]
    monkeypatch.chdir(export)
    exec(snippet("np.savetxt", export, view.image_path), {})
    table = np.loadtxt(f"{view.image_path.stem}.xyz")
    known = room.depth[view.name] > 0
    xy, z = view.camera.project(transform(view.cam_from_world, table[:, :3]))
    assert_allclose(xy, view.camera.pixel_grid()[known], atol=0.01)
    assert_allclose(z, room.depth[view.name][known], rtol=1e-6)
    assert table[:, 3:].max() <= 255


class Matrix(np.ndarray):
    """As much of `mathutils.Matrix` as the snippet uses."""

    def __new__(cls, rows: Any) -> Matrix:
        return np.array(rows, dtype=np.float64).view(cls)

    def inverted(self) -> Matrix:
        return Matrix(np.linalg.inv(self))

    @staticmethod
    def Diagonal(values: Any) -> Matrix:  # noqa: N802
        return Matrix(np.diag(values))


class Blender:
    """A scene with one camera, and Blender's projection."""

    def __init__(self) -> None:
        self.render = SimpleNamespace()
        self.linked: list[Any] = []
        self.context = SimpleNamespace(
            scene=SimpleNamespace(render=self.render),
            collection=SimpleNamespace(objects=SimpleNamespace(link=self.linked.append)),
        )
        self.data = SimpleNamespace(
            cameras=SimpleNamespace(new=lambda name: SimpleNamespace()),
            objects=SimpleNamespace(new=lambda name, camera: SimpleNamespace(data=camera)),
        )

    def pixels(self, world: np.ndarray) -> np.ndarray:
        """Where world points (N, 3) appear, from the picture's upper left corner (N, 2).

        `BKE_camera_params_compute_viewplane` with horizontal fit: at distance 1 a pixel is
        sensor / lens / width wide and pixel_aspect_y / pixel_aspect_x as high; the shift is in
        widths of the picture.
        """
        (camera,), render = self.linked, self.render
        data = camera.data
        assert data.sensor_fit == "HORIZONTAL"
        local = transform(np.linalg.inv(camera.matrix_world), world)
        assert (local[:, 2] < 0).all()
        pixel = data.sensor_width / data.lens / render.resolution_x
        aspect = render.pixel_aspect_y / render.pixel_aspect_x
        left = (-0.5 + data.shift_x) * render.resolution_x
        top = 0.5 * render.resolution_y * aspect + data.shift_y * render.resolution_x
        across, up = (local[:, :2] / -local[:, 2:] / pixel).T
        return np.stack([across - left, (top - up) / aspect], axis=1)


@pytest.mark.parametrize("squeeze", [1.0, 0.8, 1.25])
def test_blenders_camera_sees_points_on_their_pixels(
    room: ExactRoom, export: Path, monkeypatch: pytest.MonkeyPatch, squeeze: float
) -> None:
    view = room.scene.views[3]
    index = json.loads((export / "depth.json").read_text())
    entry = index["views"][view.name]
    entry["K"][1][1] *= squeeze
    entry["K"][0][2] += 7.25
    entry["K"][1][2] -= 3.5
    (export / "depth.json").write_text(json.dumps(index))
    points = unproject(room.depth[view.name], entry["K"], entry["cam_from_world"])
    blender = Blender()
    monkeypatch.setitem(sys.modules, "bpy", blender)
    monkeypatch.setitem(sys.modules, "mathutils", SimpleNamespace(Matrix=Matrix))
    exec(snippet("import bpy", export, view.image_path), {})
    known = room.depth[view.name] > 0
    assert_allclose(blender.pixels(points[known]), view.camera.pixel_grid()[known], atol=0.01)
    assert min(blender.render.pixel_aspect_x, blender.render.pixel_aspect_y) == 1
    assert_array_equal(
        [blender.render.resolution_x, blender.render.resolution_y],
        [view.camera.width, view.camera.height],
    )
