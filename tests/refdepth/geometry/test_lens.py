"""From the undistorted grid back into the input photo."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from refdepth.geometry.lens import (
    InputPhoto,
    input_pixels,
    lens_slopes,
    sample_map,
    turn_upright,
    undistorted_pixels,
)
from refdepth.types.camera import PinholeCamera

VIEW = PinholeCamera(K=np.array([[50.0, 0, 30.5], [0, 52.0, 20], [0, 0, 1]]), width=60, height=41)


def test_without_distortion_pixels_map_by_the_two_calibrations() -> None:
    photo = InputPhoto(
        name="a.jpg",
        camera_model="PINHOLE",
        width=80,
        height=60,
        camera_params=(60.0, 61.0, 40.0, 30.0),
    )
    xy = input_pixels(VIEW, photo)
    assert xy.shape == (41, 60, 2)
    x, y = 7.5, 12.5
    expected = [(x - 30.5) / 50 * 60 + 40, (y - 20) / 52 * 61 + 30]
    np.testing.assert_allclose(xy[12, 7], expected, atol=1e-9)


def test_radial_distortion_follows_its_formula() -> None:
    f, k = 60.0, -0.1
    photo = InputPhoto(
        name="a.jpg",
        camera_model="SIMPLE_RADIAL",
        width=80,
        height=60,
        camera_params=(f, 40.0, 30.0, k),
    )
    u, v = VIEW.rays()[..., 0], VIEW.rays()[..., 1]
    bend = 1 + k * (u**2 + v**2)
    expected = np.stack([f * u * bend + 40, f * v * bend + 30], axis=-1)
    np.testing.assert_allclose(input_pixels(VIEW, photo), expected, atol=1e-9)


def test_pixels_of_the_photo_are_found_in_the_undistorted_view() -> None:
    photo = InputPhoto(
        name="a.jpg",
        camera_model="OPENCV",
        width=80,
        height=60,
        camera_params=(60.0, 61.0, 40.0, 30.0, -0.1, 0.02, 0.002, -0.001),
    )
    there = VIEW.pixel_grid().reshape(-1, 2)[::37]
    given = input_pixels(VIEW, photo).reshape(-1, 2)[::37]
    assert np.abs(given - there).max() > 5
    np.testing.assert_allclose(undistorted_pixels(VIEW, photo, given), there, atol=1e-6)


def test_samples_are_bilinear_between_pixel_centres() -> None:
    y, x = np.mgrid[:6, :8]
    values = (3 * (x + 0.5) - 2 * (y + 0.5)).astype(np.float32)
    xy = np.random.default_rng(0).uniform([0.5, 0.5], [7.5, 5.5], (50, 2))
    np.testing.assert_allclose(sample_map(values, xy), 3 * xy[:, 0] - 2 * xy[:, 1], atol=1e-4)


def test_unknown_pixels_do_not_bleed_and_outside_is_unknown() -> None:
    values = np.array([[1.0, np.nan], [1.0, 1.0]], np.float32)
    xy = np.array(
        [[0.5, 0.5], [0.9, 0.6], [1.4, 0.6], [0.1, 1.9], [-0.1, 1], [2.1, 1], [np.nan, 1]]
    )
    np.testing.assert_allclose(
        sample_map(values, xy), [1, 1, np.nan, 1, np.nan, np.nan, np.nan], atol=1e-6
    )


def test_a_single_pixel_map_can_be_sampled() -> None:
    assert sample_map(np.array([[4.0]]), np.array([[0.2, 0.9]]))[0] == 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_follows_exif(orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turn_upright(stored, orientation), expected)


def test_rays_of_a_fisheye_go_as_far_as_90_degrees() -> None:
    f, middle = 50.0, 100.0
    photo = InputPhoto(
        name="a.jpg",
        camera_model="OPENCV_FISHEYE",
        width=200,
        height=200,
        camera_params=(f, f, middle, middle, 0.0, 0.0, 0.0, 0.0),
    )
    angle = np.deg2rad([0.0, 30, 60, 85, 95, 110])
    xy = np.stack([middle + f * angle, np.full(6, middle)], axis=1)
    slopes = lens_slopes(photo, xy)
    np.testing.assert_allclose(slopes[:4, 0], np.tan(angle[:4]), rtol=1e-6)
    assert np.isnan(slopes[4:]).all()
    assert np.isnan(undistorted_pixels(VIEW, photo, xy)[4:]).all()
