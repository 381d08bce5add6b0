"""Fusion against exact geometry: two textured planes seen by a row of cameras."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open3d
import pytest
import trimesh
from PIL import Image

import refdepth.view_selection
from refdepth.camera import PinholeCamera, pose_matrix, transform
from refdepth.depth_map import DepthMap
from refdepth.errors import InputError, StageError
from refdepth.formats.mesh_files import write_glb
from refdepth.formats.ply import write_ply
from refdepth.fusion import FusionSettings, _kernels, check_view, fuse, fuse_mesh, fuse_pieces
from refdepth.fusion.consistency import DepthCache
from refdepth.fusion.voxels import _keys
from refdepth.scene import Scene, SparsePoints, View

WIDTH, HEIGHT, FOCAL = 96, 72, 100.0
FAR, NEAR = 4.0, 2.0  # a wall at z = 4 and a board at z = 2 before its right half (x > 0)
VIEWS = 5


def wall_scene(folder: Path) -> tuple[Scene, dict[str, DepthMap]]:
    """Cameras in a row looking along z, and their exact depth maps."""
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    camera = PinholeCamera(K=K, width=WIDTH, height=HEIGHT)
    points = SparsePoints(
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        track_length=np.zeros(0, np.int64),
    )
    views, maps = [], {}
    for i in range(VIEWS):
        center = np.array([0.2 * (i - 2), 0.0, 0.0])
        name = f"{i}.png"
        x_near = camera.rays()[..., 0] * NEAR + center[0]
        depth = np.where(x_near > 0, NEAR, FAR).astype(np.float32)
        color = np.where(depth == NEAR, 200, 100).astype(np.uint8)
        Image.fromarray(np.stack([color, color, color // 2], axis=-1)).save(folder / name)
        views.append(
            View(
                name=name,
                camera=camera,
                cam_from_world=pose_matrix(np.eye(3), -center),
                point_index=np.zeros(0, np.int64),
                point_xy=np.zeros((0, 2)),
                image_path=folder / name,
            )
        )
        maps[name] = DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))
    return Scene(views, points), maps


@pytest.fixture
def wall(tmp_path, monkeypatch):
    def all_others(scene: Scene, view: View, count: int) -> tuple[str, ...]:
        gaps = {v.name: np.linalg.norm(v.center - view.center) for v in scene.views}
        order = sorted(gaps, key=lambda name: (gaps[name], name))
        return tuple(name for name in order if name != view.name)[:count]

    monkeypatch.setattr(refdepth.view_selection, "select_sources", all_others)
    return wall_scene(tmp_path)


def off_surface(points: np.ndarray) -> np.ndarray:
    """Distance along z to the nearer of the two planes."""
    return np.minimum(abs(points[:, 2] - FAR), abs(points[:, 2] - NEAR))


def changed(maps, name, **arrays):
    old = maps[name]
    return {
        **maps,
        name: DepthMap(
            depth=arrays.get("depth", old.depth),
            confidence=arrays.get("confidence", old.confidence),
        ),
    }


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
    sure = check_view(
        scene["2.png"], [scene["1.png"]], wrong.__getitem__, FusionSettings(min_agreeing=1)
    )
    inner = np.s_[10:-10, 10:30]
    assert sure.agreeing[inner].min() == 1
    error = sure.depth[inner] / maps["2.png"].depth[inner] - 1
    assert 0 < error.max() < 0.0004  # far less than the half that equal weights would give


def test_what_one_view_alone_believes_is_left_out(wall):
    scene, maps = wall
    bump = maps["2.png"].depth.copy()
    bump[20:40, 10:30] *= 0.9
    cloud = fuse(scene, changed(maps, "2.png", depth=bump).__getitem__, FusionSettings())
    assert off_surface(cloud.points).max() < 0.02


def test_a_point_that_neighbours_see_through_is_left_out(wall):
    scene, maps = wall
    # Two views share the same mistake; the other three see the wall behind it.
    wrong = dict(maps)
    for name in ("1.png", "2.png"):
        xy, _ = scene[name].camera.project(
            transform(scene[name].cam_from_world, [[-0.6, -0.5, 3.0], [-0.2, 0.5, 3.0]])
        )
        (x0, y0), (x1, y1) = np.rint(xy).astype(int)
        depth = maps[name].depth.copy()
        depth[y0:y1, x0:x1] = 3.0
        wrong = changed(wrong, name, depth=depth)
    strict = FusionSettings()
    blind = FusionSettings(min_belief=0)
    assert (abs(fuse(scene, wrong.__getitem__, blind).points[:, 2] - 3) < 0.01).any()
    assert not (abs(fuse(scene, wrong.__getitem__, strict).points[:, 2] - 3) < 0.01).any()


def test_a_ramp_across_a_depth_step_needs_more_witnesses_than_a_surface(wall):
    scene, maps = wall
    # Two views interpolate across the board's edge: points that hang between board and wall.
    wrong = dict(maps)
    for name in ("1.png", "2.png"):
        depth = maps[name].depth.copy()
        edge = int(np.flatnonzero(depth[0] == NEAR)[0])
        depth[:, edge - 2 : edge + 2] = np.linspace(FAR, NEAR, 6, dtype=np.float32)[1:-1]
        wrong = changed(wrong, name, depth=depth)
    pair = [scene["1.png"]]
    loose = {"max_depth_ratio": 0.2, "max_reprojection_px": 5.0, "min_belief": 0.0}
    plain = FusionSettings(min_agreeing_steep=1, **loose)
    assert hanging(check_view(scene["2.png"], pair, wrong.__getitem__, plain)) > 0
    three = [scene["1.png"], scene["0.png"], scene["3.png"]]
    strict = FusionSettings(min_agreeing_steep=3, **loose)
    checked = check_view(scene["2.png"], three, wrong.__getitem__, strict)
    assert hanging(checked) == 0
    assert checked.mask[:, 10:30].mean() > 0.9  # the wall itself stays


def hanging(checked) -> int:
    """How many kept pixels lie between board and wall."""
    kept = checked.depth[checked.mask]
    return int(((kept > NEAR * 1.05) & (kept < FAR * 0.95)).sum())


def test_a_slanted_surface_is_not_steep_at_any_picture_size():
    slant = np.tan(np.radians(60))
    for focal in (100.0, 800.0):
        x = (np.arange(60) - 30) / focal
        depth = np.tile((1 / (1 - slant * x)).astype(np.float32), (20, 1))
        limit = 4 * np.tan(np.radians(75)) / focal
        assert not _kernels.near_steps(depth, 2, limit).any()
        depth[:, 30:] *= 1.5
        marked = _kernels.near_steps(depth, 2, limit)
        assert marked[:, 28:32].all()
        assert not marked[:, :28].any()


def test_specks_go_and_thin_connected_things_stay():
    depth = np.full((60, 80), 2.0, np.float32)
    keep = np.zeros(depth.shape, bool)
    keep[5, 3:40] = True  # a wire, 37 px
    keep[20:24, 20:24] = True  # a speck of 16 px
    np.fill_diagonal(keep[30:58, 30:58], True)  # a slanted wire, 28 px
    keep[40:60, :20] = True
    depth[45:48, 5:8] = 1.0  # a speck in front of a surface, 9 px
    _kernels.small_segments(depth, keep, 0.02, 20)
    assert keep[5, 3:40].all()
    assert keep[30:58, 30:58].diagonal().all()
    assert not keep[20:24, 20:24].any()
    assert not keep[45:48, 5:8].any()
    assert keep.sum() == 37 + 28 + 20 * 20 - 9


def test_what_claims_no_confidence_gives_no_point(wall):
    scene, maps = wall
    doubtful = {
        name: DepthMap(depth=m.depth, confidence=np.where(m.depth == FAR, m.confidence, 0))
        for name, m in maps.items()
    }
    cloud = fuse(scene, doubtful.__getitem__, FusionSettings(min_confidence=0.05))
    assert len(cloud) > 0
    assert (cloud.points[:, 2] > 3).all()


def test_packed_voxel_keys_keep_the_order_of_cells():
    rng = np.random.default_rng(0)
    for spread in (5, 2**29):  # packed into one number, and too wide for that
        cells = rng.integers(-spread, spread, size=(500, 4)).astype(np.int32)
        cells = np.concatenate([cells, cells[:100]])
        key = _keys(cells)
        order = np.lexsort(cells.T[::-1])
        np.testing.assert_array_equal(np.argsort(key, kind="stable"), order)
        assert len(np.unique(key)) == len(np.unique(cells, axis=0))


def test_a_nearer_surface_hides_and_does_not_contradict(wall):
    scene, maps = wall
    checked = check_view(
        scene["0.png"], [scene["4.png"]], maps.__getitem__, FusionSettings(min_agreeing=0)
    )
    assert checked.contradicting.sum() == 0


def test_result_does_not_depend_on_memory(wall):
    scene, maps = wall
    loads = []

    def load(name):
        loads.append(name)
        return maps[name]

    roomy = fuse(scene, maps.__getitem__, FusionSettings())
    tight = fuse(scene, load, FusionSettings(memory_points=50, cache_mb=1e-6))
    for field in ("points", "normals", "colors", "confidence"):
        np.testing.assert_array_equal(getattr(roomy, field), getattr(tight, field))
    assert len(loads) > VIEWS  # nothing was kept


def test_temporary_files_are_gone_even_when_the_reader_stops_early(wall, tmp_path):
    scene, maps = wall
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings = FusionSettings(memory_points=50, voxel_px=0.2)
    pieces = fuse_pieces(scene, maps.__getitem__, settings, scratch=scratch)
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
    np.testing.assert_allclose(far_cloud.points - offset, near_cloud.points, atol=1e-5)

    write_ply(tmp_path / "cloud.ply", far_cloud)
    read = open3d.t.io.read_point_cloud(str(tmp_path / "cloud.ply")).point.positions.numpy()
    np.testing.assert_array_equal(read, far_cloud.points)

    near_mesh, far_mesh = (fuse_mesh(s, maps.__getitem__, FusionSettings()) for s in (scene, far))
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
        fuse_mesh(scene, empty.__getitem__, FusionSettings())


def test_what_a_mask_leaves_out_gives_no_point_and_no_witness(wall, tmp_path):
    scene, maps = wall
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[: HEIGHT // 2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    everywhere = Scene(
        [replace(view, mask_path=tmp_path / "mask.png") for view in scene.views], scene.points
    )
    cloud = fuse(everywhere, maps.__getitem__, FusionSettings())
    assert len(cloud) > 0
    assert (cloud.points[:, 1] > 0).all()
    own_only = Scene(
        [
            replace(v, mask_path=tmp_path / "mask.png" if v.name == "2.png" else None)
            for v in scene.views
        ],
        scene.points,
    )
    agreeing = np.zeros((HEIGHT, WIDTH))
    fuse(
        own_only,
        maps.__getitem__,
        FusionSettings(),
        on_view=lambda name, checked: agreeing.__iadd__(checked.agreeing if name == "1.png" else 0),
    )
    assert agreeing[: HEIGHT // 2].max() == VIEWS - 2
    assert agreeing[HEIGHT // 2 + 1 :].max() == VIEWS - 1


def test_depth_of_another_size_is_refused(wall):
    scene, maps = wall
    small = DepthMap(depth=np.ones((4, 5), np.float32), confidence=np.ones((4, 5), np.float32))
    with pytest.raises(InputError, match="5x4"):
        fuse(scene, {**maps, "3.png": small}.__getitem__, FusionSettings())


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


def test_cache_forgets_the_least_recently_used(wall):
    scene, maps = wall
    loads = []

    def load(name):
        loads.append(name)
        return maps[name]

    two = 2.5 * maps["0.png"].depth.nbytes * 2 / 2**20
    cache = DepthCache(load, scene, two)
    for name in ("0.png", "1.png", "0.png", "2.png", "0.png", "1.png"):
        cache(name)
    assert loads == ["0.png", "1.png", "2.png", "1.png"]


def test_mesh_lies_on_the_surface_and_faces_the_cameras(wall):
    scene, maps = wall
    flat = {
        n: DepthMap(depth=np.full_like(m.depth, FAR), confidence=m.confidence)
        for n, m in maps.items()
    }
    mesh = fuse_mesh(scene, flat.__getitem__, FusionSettings())
    assert np.abs(mesh.vertices[:, 2] - FAR).max() < 0.01 * FAR
    assert np.median(mesh.normals[:, 2]) < -0.99
    seen = FAR * WIDTH / FOCAL
    assert np.ptp(mesh.vertices[:, 0]) == pytest.approx(seen, rel=0.1)  # by three views
    assert mesh.triangles.max() < len(mesh.vertices)
