"""Depth on the grid of the photo with lens distortion, against planes whose depth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from refdepth._pycolmap import pycolmap
from refdepth.geometry.lens import InputPhoto
from refdepth.geometry.photo_grid import on_original, on_undistorted
from refdepth.types.camera import PinholeCamera, pose_matrix, transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

CAMERA = PinholeCamera(K=np.array([[90.0, 0, 61], [0, 95, 44], [0, 0, 1]]), width=120, height=90)
PHOTO = InputPhoto(
    name="p.jpg",
    camera_model="SIMPLE_RADIAL",
    width=140,
    height=100,
    camera_params=(96.0, 71, 49, -0.12),
)
PLANE = np.array([0.1, -0.15, 0.3])
"""1 / z = PLANE . ray."""


def view() -> View:
    angle = 0.3
    turn = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    return View(
        name="p.jpg",
        camera=CAMERA,
        cam_from_world=pose_matrix(turn, [0.2, -1, 3]),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=None,  # type: ignore[arg-type]  # no pixels are read
    )


def plane(step: float = 1.0) -> DepthMap:
    """A plane; `step` times as far right of the middle."""
    depth = 1 / (CAMERA.rays() @ PLANE)
    depth[:, 60:] *= step
    confidence = np.tile(np.linspace(0.1, 1, 120, dtype=np.float32), (90, 1))
    return DepthMap(depth=depth.astype(np.float32), confidence=confidence)


def lens_rays() -> np.ndarray:
    """Rays of the photo's pixels, from pycolmap."""
    camera = pycolmap.Camera(
        model="SIMPLE_RADIAL", width=140, height=100, params=list(PHOTO.camera_params)
    )
    x, y = np.meshgrid(np.arange(140) + 0.5, np.arange(100) + 0.5)
    xy = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
    return np.dstack([xy.reshape(100, 140, 2), np.ones((100, 140))])


def test_a_plane_stays_the_plane_at_every_pixel() -> None:
    placed = on_original(view(), plane(), PHOTO)
    rays, found = lens_rays(), placed.depth_map.depth
    xy, _ = CAMERA.project(rays)
    seen = CAMERA.contains(xy)
    assert 0.5 < seen.mean() < 1
    assert_array_equal(found > 0, seen)
    inner = CAMERA.contains(xy - 0.5) & CAMERA.contains(xy + 0.5)
    assert_allclose(found[inner], 1 / (rays @ PLANE)[inner], rtol=1e-5)
    # The outermost half pixel has the border's depth; this plane falls by 1 % a pixel.
    assert_allclose(found[seen], 1 / (rays @ PLANE)[seen], rtol=0.01)


def test_a_step_is_not_smeared() -> None:
    found = on_original(view(), plane(step=1.5), PHOTO).depth_map.depth
    ratio = (found * (lens_rays() @ PLANE))[found > 0]
    assert (np.minimum(np.abs(ratio - 1), np.abs(ratio / 1.5 - 1)) < 0.01).all()


def test_what_is_unknown_does_not_spread() -> None:
    depth_map = plane()
    hole = np.ones(depth_map.depth.shape, np.bool_)
    hole[40:50, 50:70] = False
    placed = on_original(view(), depth_map.within(hole), PHOTO)
    xy, _ = CAMERA.project(lens_rays())
    column, row = np.floor(xy).astype(int)[CAMERA.contains(xy)].T
    assert_array_equal(placed.depth_map.valid[CAMERA.contains(xy)], hole[row, column])
    assert (placed.depth_map.confidence[~placed.depth_map.valid] == 0).all()


def test_ray_depth_and_positions_are_of_the_pixels_own_rays() -> None:
    for placed, rays in (
        (on_undistorted(view(), plane()), CAMERA.rays()),
        (on_original(view(), plane(), PHOTO), lens_rays()),
    ):
        known, depth = placed.depth_map.valid, placed.depth_map.depth
        local = rays * depth[..., None]
        assert_allclose(placed.ray_depth[known], np.linalg.norm(local, axis=-1)[known], rtol=1e-5)
        assert (placed.ray_depth[~known] == 0).all()
        world = placed.points(view().cam_from_world)
        assert_allclose(transform(view().cam_from_world, world)[known], local[known], atol=1e-4)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_values_are_carried_from_the_nearest_pixel(channels: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random((90, 120, *channels), np.float32)
    placed = on_original(view(), plane(), PHOTO)
    carried = placed.carry(values)
    xy, _ = CAMERA.project(lens_rays())
    column, row = np.floor(xy[50, 70]).astype(int)
    assert_array_equal(carried[50, 70], values[row, column])
    assert not carried[~placed.depth_map.valid].any()
