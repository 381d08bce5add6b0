"""Colours of depth pictures."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from refdepth.io.colors import (
    UNKNOWN_RGB,
    color_table,
    depth_picture,
    depth_range,
    ratio_picture,
    value_picture,
)


def test_near_is_warm_far_is_cold_unknown_is_grey() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 0.0, np.nan]], np.float32)
    picture = depth_picture(depth, 1, 4)
    red, blue = picture[0, :, 0].astype(int), picture[0, :, 2].astype(int)
    assert red[0] > blue[0]
    assert blue[2] >= red[2]
    assert_array_equal(picture[0, 3:], [UNKNOWN_RGB, UNKNOWN_RGB])


def test_the_range_ignores_outliers_and_unknown_pixels() -> None:
    depth = np.full((100, 100), 2.0, np.float32)
    depth[:50] = 3
    depth[0, :50] = 1000
    depth[1] = 0
    assert depth_range(depth) == (2.0, 3.0)
    assert depth_range(np.zeros((4, 4), np.float32)) == (1.0, 2.0)


def test_values_beyond_the_range_take_its_end_colours() -> None:
    table = color_table("viridis")
    assert_array_equal(value_picture([[-5.0, 0, 1, 7]], 0, 1)[0], table[[0, 0, 255, 255]])


def test_a_ratio_picture_is_red_where_farther_blue_where_nearer() -> None:
    one = np.ones((1, 3), np.float32)
    picture = ratio_picture(np.array([[1.2, 0.8, 0]], np.float32), one, 0.1).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2]
    assert picture[0, 1, 2] > picture[0, 1, 0]
    assert_array_equal(picture[0, 2], UNKNOWN_RGB)
