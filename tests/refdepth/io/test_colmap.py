"""COLMAP models and dense workspaces, read back by COLMAP's own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

from refdepth._pycolmap import pycolmap
from refdepth.fusion import FusionSettings, fuse
from refdepth.io.colmap import normal_map, to_reconstruction, write_dense_workspace
from refdepth.io.colmap_model import read_scene
from refdepth.io.ply import read_ply_points
from refdepth.types.camera import transform


@pytest.fixture(scope="module")
def workspace(room: ExactRoom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    write_dense_workspace(folder, room.scene, room.load)
    return folder


def test_a_scene_survives_the_way_through_a_colmap_model(room: ExactRoom, tmp_path: Path) -> None:
    model = to_reconstruction(room.scene)
    model.write_binary(str(tmp_path))
    back = read_scene(tmp_path, room.scene.views[0].image_path.parent)
    assert back.names == room.scene.names
    for view in room.scene.views:
        assert_allclose(back[view.name].camera.K, view.camera.K)
        assert_allclose(back[view.name].cam_from_world, view.cam_from_world, atol=1e-12)
        assert_allclose(
            back.points.xyz[back[view.name].point_index], room.scene.points.xyz[view.point_index]
        )
        assert_allclose(back[view.name].point_xy, view.point_xy)
    assert_allclose(back.points.error_px, room.scene.points.error_px)
    assert_array_equal(back.points.rgb, room.scene.points.rgb)


def test_reprojection_errors_that_colmap_computes_match(room: ExactRoom) -> None:
    model = to_reconstruction(room.scene)
    model.update_point_3d_errors()
    errors = [model.points3D[i].error for i in sorted(model.points3D)]
    assert_allclose(errors, room.scene.points.error_px, rtol=1e-6, atol=1e-9)


def test_the_stored_layout_is_colmaps(room: ExactRoom, workspace: Path) -> None:
    name = room.scene.names[0]
    raw = (workspace / "stereo" / "depth_maps" / f"{name}.geometric.bin").read_bytes()
    # COLMAP's documentation: width&height&channels& in ASCII, then float32, channel by channel.
    width, height, channels, rest = raw.split(b"&", 3)
    assert (int(width), int(height), int(channels)) == (160, 120, 1)
    assert_array_equal(np.frombuffer(rest, "<f4").reshape(120, 160), room.depth[name])
    raw = (workspace / "stereo" / "normal_maps" / f"{name}.geometric.bin").read_bytes()
    *_, rest = raw.split(b"&", 3)
    normals = np.frombuffer(rest, "<f4").reshape(3, 120, 160)
    assert_array_equal(
        normals.transpose(1, 2, 0), normal_map(room.depth[name], room.scene[name].camera)
    )
    length = np.linalg.norm(normals, axis=0)
    assert_allclose(length[length > 0], 1, atol=1e-5)
    assert (workspace / "stereo" / "fusion.cfg").read_text().split() == list(room.scene.names)


def test_pycolmap_reads_the_depth(room: ExactRoom, workspace: Path) -> None:
    for name in room.scene.names:
        stored = pycolmap.DepthMap()
        stored.read(str(workspace / "stereo" / "depth_maps" / f"{name}.geometric.bin"))
        assert_array_equal(stored.to_array(), room.depth[name])


def test_normals_are_those_of_the_exact_surface(room: ExactRoom) -> None:
    view = room.scene.views[0]
    depth = room.depth[view.name]
    normals = normal_map(depth, view.camera)
    points = view.camera.unproject(depth)
    # Second opinion: cross products of central differences, where the surface is smooth.
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    expected = np.cross(down, across)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    cosine = (expected * normals[1:-1, 1:-1]).sum(axis=-1)
    assert np.median(cosine) > 0.999
    towards = (normals * points).sum(axis=-1)
    assert (towards[np.linalg.norm(normals, axis=-1) > 0] < 0).mean() > 0.99


def test_colmaps_own_fusion_runs_on_it_and_agrees_with_ours(
    room: ExactRoom, workspace: Path, tmp_path: Path
) -> None:
    options = pycolmap.StereoFusionOptions()
    # As docs/formats.md says: our points are a pixel apart, where COLMAP's default of 2 px joins
    # pixels in groups; and it counts the pixel itself among the witnesses.
    options.min_num_pixels = 2
    options.max_reproj_error = 0.75
    path = tmp_path / "fused.ply"
    pycolmap.stereo_fusion(str(path), str(workspace), options=options, output_type="PLY")
    theirs = read_ply_points(path)
    ours = fuse(room.scene, room.load, FusionSettings()).points.astype(np.float64)
    assert len(theirs) >= 0.5 * len(ours)
    distance, _ = cKDTree(ours).query(theirs)
    view = room.scene.views[0]
    z = transform(view.cam_from_world, ours)[:, 2]
    voxel = np.median(z) / view.camera.mean_focal_px
    assert np.median(distance) < 2 * voxel


def test_views_without_depth_are_left_to_colmap(room: ExactRoom, tmp_path: Path) -> None:
    names = room.scene.names[:3]
    write_dense_workspace(tmp_path, room.scene, room.load, names=names)
    assert (tmp_path / "stereo" / "fusion.cfg").read_text().split() == list(names)
    assert len(list((tmp_path / "stereo" / "depth_maps").iterdir())) == 3
    assert len(list((tmp_path / "images").iterdir())) == len(room.scene)
