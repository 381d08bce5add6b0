"""Synthetic scenes: exact where they claim to be, realistic where they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import InputError
from refdepth.io.images import load_photo
from refdepth.synthetic import SyntheticScene, Variant, make_scene
from refdepth.types.camera import camera_center, invert_pose, relative_pose, transform

SIZE = {"width": 160, "height": 120}


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=4, **SIZE)


def test_depth_agrees_with_an_independent_ray_caster(room: SyntheticScene) -> None:
    o3d = pytest.importorskip("open3d")
    view = room.views[1]
    world = room.world
    rays_scene = o3d.t.geometry.RaycastingScene()
    for shape, center, rotation, half in zip(
        world.shapes, world.centers, world.rotations, world.halves, strict=True
    ):
        if shape == 0:
            mesh = o3d.geometry.TriangleMesh.create_box(*(2 * half)).translate(-half)
        elif shape == 1:
            mesh = o3d.geometry.TriangleMesh.create_sphere(half[0], resolution=100)
        else:
            mesh = o3d.geometry.TriangleMesh.create_cylinder(half[0], 2 * half[1], resolution=200)
            mesh.rotate([[1, 0, 0], [0, 0, 1], [0, -1, 0]], center=(0, 0, 0))
        mesh.rotate(rotation, center=(0, 0, 0)).translate(center)
        rays_scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    world_from_cam = invert_pose(view.cam_from_world)
    directions = view.camera.rays() @ world_from_cam[:3, :3].T
    origins = np.broadcast_to(camera_center(view.cam_from_world), directions.shape)
    rays = np.concatenate([origins, directions], axis=-1).astype(np.float32)
    expected = rays_scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
    ratio = np.abs(view.depth / expected - 1)
    # Round things are polyhedra to the other caster: a few outline pixels may differ.
    assert np.mean(ratio < 1e-4) > 0.93
    assert np.mean(ratio < 3e-3) > 0.998


def test_photos_agree_through_exact_depth_and_cameras(room: SyntheticScene) -> None:
    ref, source = room.views[1], room.views[2]
    source_from_ref = relative_pose(source.cam_from_world, ref.cam_from_world)
    xy, z = source.camera.project(transform(source_from_ref, ref.camera.unproject(ref.depth)))
    inside = source.camera.contains(xy)
    column, row = xy[inside].astype(int).T
    seen = np.abs(source.depth[row, column] / z[inside] - 1) < 0.02
    difference = np.abs(ref.image[inside] - source.image[row, column]).mean(axis=1)
    shuffled = np.abs(ref.image[inside] - source.image[row, column][::-1]).mean(axis=1)
    assert 0.6 < seen.mean() < 1.0, "most is seen twice, something is occluded"
    assert np.median(difference[seen]) < 0.25 * np.median(shuffled[seen])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_room() -> None:
    first, again, other = (make_scene(views=2, seed=s, **SIZE) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.views[1].image, again.views[1].image)
    np.testing.assert_array_equal(first.views[1].depth, again.views[1].depth)
    assert np.abs(first.views[1].image - other.views[1].image).mean() > 0.03


@pytest.mark.parametrize("name", list(Variant))
def test_every_variant_has_a_surface_in_every_pixel(name: Variant) -> None:
    view = make_scene(name, views=2, **SIZE).views[1]
    assert view.depth.min() > 0.3
    assert view.surface.min() >= 0
    assert view.image.std() > 0.05


def test_plain_walls_have_less_texture_than_the_room(room: SyntheticScene) -> None:
    def textured(scene: SyntheticScene) -> float:
        grey = scene.views[1].image.mean(axis=2)
        return float(np.mean(np.abs(np.diff(grey, axis=1)) > 8 / 255))

    assert textured(make_scene(Variant.PLAIN_WALLS, views=4, **SIZE)) < 0.6 * textured(room)


def test_exposure_changes_touch_brightness_only(room: SyntheticScene) -> None:
    exposed = make_scene(Variant.EXPOSURE_CHANGES, views=4, **SIZE)
    stops = []
    for view, plain in zip(exposed.views, room.views, strict=True):
        np.testing.assert_array_equal(view.depth, plain.depth)
        middle = (plain.image > 0.1) & (plain.image < 0.6)
        stops.append(2.2 * np.log2(np.median(view.image[middle] / plain.image[middle])))
    np.testing.assert_allclose(stops, [-0.5, 0.4, -0.1, 0.5], atol=0.05)


def test_motion_blur_takes_detail_from_some_photos_and_keeps_depth(room: SyntheticScene) -> None:
    blurred = make_scene(Variant.MOTION_BLUR, views=4, **SIZE)

    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    ratio = [
        detail(b.image) / detail(p.image) for b, p in zip(blurred.views, room.views, strict=True)
    ]
    assert ratio[1] < 0.8
    assert ratio[0] == ratio[2] == 1
    np.testing.assert_array_equal(blurred.views[1].depth, room.views[1].depth)


def test_mirror_keeps_its_own_depth_but_shows_the_room() -> None:
    view = make_scene(Variant.MIRROR_PATCH, views=3, **SIZE).views[1]
    label = view.surface.max()
    mirror = view.surface == label
    world = transform(invert_pose(view.cam_from_world), view.camera.unproject(view.depth))
    assert mirror.mean() > 0.02
    np.testing.assert_allclose(world[mirror][:, 2], 2.55, atol=1e-4)
    assert view.image[mirror].std() > 0.05


def test_written_photos_and_truth_read_back(room: SyntheticScene, tmp_path: Path) -> None:
    photos = room.write_photos(tmp_path / "images")
    truths = room.write_ground_truth(tmp_path / "gt")
    assert [p.stem for p in photos] == [p.stem for p in truths]
    with Image.open(photos[2]) as picture:
        # 60 degrees across 120 pixels, a diagonal of 150: 30 mm of full frame's 43.27 mm
        assert picture.getexif().get_ifd(0x8769)[0xA405] == 30
        pixels = np.asarray(picture) / 255
    assert np.abs(pixels - room.views[2].image).mean() < 0.02
    with np.load(truths[2]) as truth:
        np.testing.assert_array_equal(truth["depth"], room.views[2].depth)
        np.testing.assert_array_equal(truth["K"], room.camera.K)
        np.testing.assert_array_equal(truth["cam_from_world"], room.views[2].cam_from_world)


def test_sparse_points_are_noisy_by_half_a_pixel_and_correctly_tracked(tmp_path: Path) -> None:
    room = make_scene(views=5, width=240, height=180)
    scene = room.to_scene(tmp_path, points_per_view=150)
    assert len(scene) == 5
    assert scene.points.track_length.min() >= 2
    observations = sum(len(view.point_index) for view in scene.views)
    assert observations == scene.points.track_length.sum()
    for view, truth in zip(scene.views, room.views, strict=True):
        assert load_photo(view).image.shape == truth.image.shape
        sparse = scene.sparse_depth(view)
        assert len(sparse) > 100
        exact = truth.depth[sparse.xy[:, 1].astype(int), sparse.xy[:, 0].astype(int)]
        ratio = np.abs(sparse.depth / exact - 1)
        assert 0.0005 < np.median(ratio) < 0.01
        assert np.mean(ratio < 0.05) > 0.97
    xy, _ = view.camera.project(transform(view.cam_from_world, scene.points.xyz[view.point_index]))
    residual = np.linalg.norm(xy - view.point_xy, axis=1)
    assert 0.2 < np.median(residual) < 0.8


@pytest.mark.parametrize("kind", ["inverse_affine", "affine", "metric"])
@pytest.mark.parametrize("error", ["smooth", "objectwise"])
def test_simulated_prior_has_the_right_shape_and_the_wrong_place(
    room: SyntheticScene, kind: str, error: str
) -> None:
    prior = room.simulated_prior(1, 3, kind, error)
    again = room.simulated_prior(1, 3, kind, error)
    np.testing.assert_array_equal(prior.values, again.values)
    depth = room.views[1].depth.astype(np.float64)
    target = 1 / depth if kind == "inverse_affine" else depth
    correlation = np.corrcoef(prior.values.ravel(), target.ravel())[0, 1]
    assert 0.85 < correlation < 0.999
    assert np.median(np.abs(prior.values / target - 1)) > 0.02


def test_video_frames_start_and_end_with_the_photos(room: SyntheticScene) -> None:
    frames = list(room.frames(7))
    assert len(frames) == 7
    for frame, view in ((frames[0], room.views[0]), (frames[-1], room.views[-1])):
        assert frame.dtype == np.uint8
        assert np.abs(frame / 255 - view.image).mean() < 0.01


def test_unknown_name_and_impossible_size_are_refused() -> None:
    with pytest.raises(InputError, match="Choose one of room"):
        make_scene("castle")
    with pytest.raises(InputError, match="0 views"):
        make_scene(views=0)
