"""Fusion against exact geometry: two textured planes seen by a row of cameras."""

from dataclasses import replace

import numpy as np
import open3d
import pytest
import trimesh
from scipy.spatial import cKDTree
from wall_scene import FAR, FOCAL, HEIGHT, NEAR, VIEWS, WIDTH, changed, noted, off_surface

from refdepth.errors import StageError
from refdepth.fusion import (
    FusionSettings,
    MeshSettings,
    draw_together,
    fuse,
    fuse_mesh,
    fuse_pieces,
)
from refdepth.io.glb import write_glb
from refdepth.io.ply import write_ply
from refdepth.types.camera import pose_matrix
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.mesh import TriangleMesh
from refdepth.types.scene import Scene, View


def mesh_of(scene: Scene, maps: dict[str, DepthMap], **settings: float) -> TriangleMesh:
    """The mesh of what views agree on."""
    agreed: dict[str, DepthMap] = {}
    fuse(
        scene,
        maps.__getitem__,
        FusionSettings(),
        on_agreed=lambda name, found: agreed.update({name: found}),
    )
    return fuse_mesh(scene, agreed.__getitem__, MeshSettings(**settings))


def test_exact_depth_gives_points_on_the_surface_with_normal_and_colour(wall):
    scene, maps = wall
    cloud = fuse(scene, maps.__getitem__, FusionSettings())
    assert len(cloud) > 0.95 * WIDTH * HEIGHT  # what three views see: as much as one picture
    assert off_surface(cloud.points).max() < 1e-5
    known = np.abs(cloud.normals).sum(axis=1) > 0
    assert known.mean() > 0.99
    np.testing.assert_allclose(cloud.normals[known], [[0, 0, -1]] * known.sum(), atol=1e-3)
    near = cloud.points[:, 2] < 3
    inner = near & (cloud.points[:, 0] > 0.1)
    assert (cloud.colors[inner] == [200, 200, 100]).all()
    far = ~near & (cloud.points[:, 0] < -0.1)
    assert (cloud.colors[far] == [100, 100, 50]).all()
    assert (cloud.confidence > 0).all()
    assert (cloud.confidence <= 1).all()


def test_a_surface_is_given_once_not_by_every_view(wall):
    scene, maps = wall
    cloud = fuse(scene, maps.__getitem__, FusionSettings())
    board = cloud.points[(cloud.points[:, 2] < 3) & (cloud.points[:, 0] > 0.05)]
    spacing = NEAR / FOCAL
    area = np.ptp(board[:, 0]) * np.ptp(board[:, 1])
    assert len(board) < 1.6 * area / spacing**2  # five views see it


def test_noise_of_single_views_is_averaged_away(wall):
    scene, maps = wall
    rng = np.random.default_rng(0)
    noisy = {
        name: DepthMap(
            depth=(m.depth * (1 + rng.normal(scale=0.001, size=m.depth.shape))).astype(np.float32),
            confidence=m.confidence,
        )
        for name, m in maps.items()
    }
    cloud = fuse(scene, noisy.__getitem__, FusionSettings())
    raw = np.abs(noisy["2.png"].depth / maps["2.png"].depth - 1)
    fused = off_surface(cloud.points) / cloud.points[:, 2]
    assert np.median(fused) < 0.65 * np.median(raw)


def test_confidence_weights_the_average(wall):
    scene, maps = wall
    wrong = changed(
        maps,
        "1.png",
        depth=maps["1.png"].depth * np.float32(1.002),
        confidence=np.full((HEIGHT, WIDTH), 0.01, np.float32),
    )
    sure = draw_together(scene["2.png"], [scene["1.png"]], wrong.__getitem__, FusionSettings())
    inner = np.s_[10:-10, 10:30]
    error = sure.depth_map.depth[inner] / maps["2.png"].depth[inner] - 1
    assert 0 < error.max() < 0.0004  # far less than the half that equal weights would give


def as_rows(cloud: PointCloud) -> np.ndarray:
    """The points' bytes (N, B), sorted: equal for clouds of the same points in any order."""
    fields = ("points", "normals", "colors", "confidence")
    columns = [np.ascontiguousarray(getattr(cloud, name)).view(np.uint8) for name in fields]
    rows = np.concatenate([column.reshape(len(cloud), -1) for column in columns], axis=1)
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("tile_points", [50, 3000])
def test_tiles_together_hold_the_points_of_the_whole(tile_points, wall):
    scene, maps = wall
    load, loads = noted(maps)
    settings = FusionSettings(voxel_px=0.1)  # the wall in several blocks
    whole = fuse(scene, maps.__getitem__, settings)
    tiled = fuse(scene, load, settings, tile_points=tile_points, cache_mb=1e-6)
    np.testing.assert_array_equal(as_rows(tiled), as_rows(whole))
    assert (tiled.points != whole.points).any()  # they were cut: in another order
    assert len(loads) > VIEWS  # nothing was kept


def test_temporary_files_are_gone_even_when_the_reader_stops_early(wall, tmp_path):
    scene, maps = wall
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pieces = fuse_pieces(
        scene,
        maps.__getitem__,
        FusionSettings(voxel_px=0.2),
        scratch=scratch,
        tile_points=50,
    )
    next(pieces)
    assert any(scratch.rglob("*.rows"))
    pieces.close()
    assert not list(scratch.iterdir())


def test_cloud_scales_with_the_scene(wall):
    scene, maps = wall
    scaled_views = [
        View(
            name=v.name,
            camera=v.camera,
            cam_from_world=pose_matrix(v.cam_from_world[:3, :3], v.cam_from_world[:3, 3] * 1000),
            point_index=v.point_index,
            point_xy=v.point_xy,
            image_path=v.image_path,
        )
        for v in scene.views
    ]
    scaled_maps = {
        n: DepthMap(depth=m.depth * np.float32(1000), confidence=m.confidence)
        for n, m in maps.items()
    }
    plain = fuse(scene, maps.__getitem__, FusionSettings())
    big = fuse(Scene(scaled_views, scene.points), scaled_maps.__getitem__, FusionSettings())
    assert len(big) == pytest.approx(len(plain), rel=0.01)
    assert off_surface(big.points / 1000).max() < 1e-4


def test_a_scene_in_map_coordinates_keeps_its_precision(wall, tmp_path):
    scene, maps = wall
    offset = np.array([5e5, 5e6, 300.0])  # as UTM has it
    far = Scene(
        [
            replace(v, cam_from_world=v.cam_from_world @ pose_matrix(np.eye(3), -offset))
            for v in scene.views
        ],
        scene.points,
    )
    near_cloud, far_cloud = (fuse(s, maps.__getitem__, FusionSettings()) for s in (scene, far))
    assert near_cloud.points.dtype == np.float32
    assert len(far_cloud) == len(near_cloud)
    # A point on the border of two voxels may come elsewhere in the order.
    gap, index = cKDTree(near_cloud.points).query(far_cloud.points - offset)
    assert gap.max() < 1e-5
    assert len(np.unique(index)) == len(near_cloud)

    write_ply(tmp_path / "cloud.ply", far_cloud)
    read = open3d.t.io.read_point_cloud(str(tmp_path / "cloud.ply")).point.positions.numpy()
    np.testing.assert_array_equal(read, far_cloud.points)

    near_mesh, far_mesh = (mesh_of(s, maps) for s in (scene, far))
    bounds = [m.vertices.max(axis=0) for m in (near_mesh, far_mesh)]
    np.testing.assert_allclose(bounds[1] - offset, bounds[0], atol=0.05)
    assert np.median(off_surface(far_mesh.vertices - offset)) < 1e-3
    write_glb(tmp_path / "mesh.glb", far_mesh)
    loaded = trimesh.load(tmp_path / "mesh.glb").to_mesh().vertices * [1, -1, -1]
    np.testing.assert_allclose(loaded.max(axis=0), bounds[1], atol=1e-3)


def test_unknown_depth_gives_no_point(wall):
    scene, maps = wall
    empty = {n: DepthMap(depth=m.depth * 0, confidence=m.confidence * 0) for n, m in maps.items()}
    assert len(fuse(scene, empty.__getitem__, FusionSettings())) == 0
    with pytest.raises(StageError, match="confirmed"):
        fuse_mesh(scene, empty.__getitem__, MeshSettings())


def test_a_view_that_knows_a_few_pixels_adds_nothing_to_a_mesh(wall):
    """Open3D, which looks at every fourth pixel of a row and column, refuses it."""
    scene, maps = wall
    name = scene.names[0]
    known = np.zeros((HEIGHT, WIDTH), np.float32)
    known[5::8, 5::8] = maps[name].depth[5::8, 5::8]
    few = DepthMap(depth=known, confidence=known.clip(0, 1))
    assert len(fuse_mesh(scene, {**maps, name: few}.__getitem__, MeshSettings()).triangles) > 1000
    with pytest.raises(StageError, match="confirmed"):
        fuse_mesh(scene, dict.fromkeys(scene.names, few).__getitem__, MeshSettings())


def test_callbacks_hear_every_view(wall):
    scene, maps = wall
    heard, masks = [], {}
    fuse(
        scene,
        maps.__getitem__,
        FusionSettings(),
        lambda done, total: heard.append((done, total)),
        on_view=lambda name, checked: masks.update({name: checked.mask}),
    )
    assert heard == [(i + 1, VIEWS) for i in range(VIEWS)]
    assert sorted(masks) == list(scene.names)
    assert masks["2.png"].mean() > 0.8


def test_mesh_lies_on_the_surface_and_faces_the_cameras(wall):
    scene, maps = wall
    flat = {
        n: DepthMap(depth=np.full_like(m.depth, FAR), confidence=m.confidence)
        for n, m in maps.items()
    }
    mesh = mesh_of(scene, flat)
    assert np.abs(mesh.vertices[:, 2] - FAR).max() < 0.01 * FAR
    assert np.median(mesh.normals[:, 2]) < -0.99
    seen = FAR * WIDTH / FOCAL
    assert np.ptp(mesh.vertices[:, 0]) == pytest.approx(seen, rel=0.1)  # by three views
    assert mesh.triangles.max() < len(mesh.vertices)
