"""The splat data set, read by pycolmap and Open3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal

from refdepth._pycolmap import pycolmap
from refdepth.fusion import FusionSettings, fuse
from refdepth.io.splat import write_splat_dataset
from refdepth.types.cloud import PointCloud


@pytest.fixture(scope="module")
def cloud(room: ExactRoom) -> PointCloud:
    return fuse(room.scene, room.load, FusionSettings())


def test_trainers_find_photos_cameras_and_both_kinds_of_points(
    room: ExactRoom, cloud: PointCloud, tmp_path: Path
) -> None:
    write_splat_dataset(tmp_path, room.scene, cloud, max_points=2000)
    model = pycolmap.Reconstruction(str(tmp_path / "sparse" / "0"))
    assert model.num_reg_images() == len(room.scene)
    for image in model.images.values():
        assert (tmp_path / "images" / image.name).is_file()
        expected = room.scene[image.name].cam_from_world[:3]
        assert_allclose(image.cam_from_world().matrix(), expected, atol=1e-12)
    tracked = [point for point in model.points3D.values() if point.track.length()]
    assert len(tracked) == len(room.scene.points)
    assert model.num_points3D() == len(room.scene.points) + 2000


def test_the_initial_points_are_the_clouds(
    room: ExactRoom, cloud: PointCloud, tmp_path: Path
) -> None:
    write_splat_dataset(tmp_path, room.scene, cloud)
    stored = o3d.io.read_point_cloud(str(tmp_path / "sparse" / "0" / "points3D.ply"))
    assert_allclose(np.asarray(stored.points), cloud.points)
    assert_array_equal(np.rint(np.asarray(stored.colors) * 255), cloud.colors)
    assert stored.has_normals()
