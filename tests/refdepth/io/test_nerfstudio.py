"""`transforms.json` against its schema, projections and depth read by another library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import open3d as o3d
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose
from PIL import Image
from transforms_schema import TRANSFORMS_SCHEMA

from refdepth.io.nerfstudio import write_nerfstudio
from refdepth.types.cloud import PointCloud


@pytest.fixture(scope="module")
def export(
    room: ExactRoom, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("nerfstudio")
    points = room.scene.points
    cloud = PointCloud(
        points=points.xyz.astype(np.float32),
        normals=np.tile(np.float32([0, 0, 1]), (len(points), 1)),
        colors=points.rgb,
        confidence=np.ones(len(points), np.float32),
    )
    write_nerfstudio(folder, room.scene, room.load, cloud=cloud)
    return folder, json.loads((folder / "transforms.json").read_text())


def test_it_fits_the_schema_and_its_files_exist(export: tuple[Path, dict[str, Any]]) -> None:
    folder, document = export
    jsonschema.validate(document, TRANSFORMS_SCHEMA)
    for frame in document["frames"]:
        for key in ("file_path", "depth_file_path"):
            assert (folder / frame[key]).is_file()


def test_points_project_where_sfm_saw_them(
    room: ExactRoom, export: tuple[Path, dict[str, Any]]
) -> None:
    folder, document = export
    cloud = o3d.io.read_point_cloud(str(folder / document["ply_file_path"]))
    xyz = np.asarray(cloud.points)
    for frame, view in zip(document["frames"], room.scene.views, strict=True):
        # OpenGL: the camera looks along -z, y points up.
        local = (np.linalg.inv(frame["transform_matrix"]) @ np.c_[xyz, np.ones(len(xyz))].T).T
        x, y, z = local[view.point_index, :3].T
        assert (z < 0).all()
        u = frame["fl_x"] * x / -z + frame["cx"]
        v = frame["fl_y"] * -y / -z + frame["cy"]
        assert np.median(np.hypot(*(np.stack([u, v], 1) - view.point_xy).T)) < 1


def test_depth_images_times_the_scale_factor_are_sfm_depth(
    room: ExactRoom, export: tuple[Path, dict[str, Any]]
) -> None:
    folder, document = export
    unit = document["depth_unit_scale_factor"]
    for frame, name in zip(document["frames"], room.scene.names, strict=True):
        with Image.open(folder / frame["depth_file_path"]) as picture:
            assert picture.mode == "I;16"
            levels = np.asarray(picture)
        assert_allclose(levels * unit, room.depth[name], atol=0.51 * unit)


def test_the_applied_transform_leads_from_our_world(
    room: ExactRoom, export: tuple[Path, dict[str, Any]]
) -> None:
    document = export[1]
    turn = np.array(document["applied_transform"])
    assert_allclose(turn[:, :3] @ turn[:, :3].T, np.eye(3))
    assert np.linalg.det(turn[:, :3]) == pytest.approx(1)
    for frame, view in zip(document["frames"], room.scene.views, strict=True):
        center = np.array(frame["transform_matrix"])[:3, 3]
        assert_allclose(turn[:, :3] @ view.center + turn[:, 3], center, atol=1e-12)


def test_views_without_depth_are_left_out(room: ExactRoom, tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, room.scene, room.load, names=room.scene.names[1:3])
    document = json.loads((tmp_path / "transforms.json").read_text())
    found = [Path(frame["file_path"]).name for frame in document["frames"]]
    assert found == list(room.scene.names[1:3])
    assert len(list((tmp_path / "images").iterdir())) == 2
