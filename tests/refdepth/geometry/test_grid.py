"""The working grid and the photo's grid look at the same rays."""

import numpy as np
import pytest

from refdepth.geometry.grid import grow, reduction, shrink, shrink_camera, shrink_depth
from refdepth.types.camera import PinholeCamera


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_ramp_survives_shrinking_and_growing(factor):
    height, width = 23, 32
    x = np.arange(width, dtype=np.float32) + 0.5
    ramp = np.tile(x, (height, 1))
    back = grow(shrink(ramp, factor), factor, ramp.shape)
    inner = slice(factor, width - 2 * factor)
    np.testing.assert_allclose(back[:, inner], ramp[:, inner], atol=1e-5)


def test_the_shrunk_camera_sees_the_same_rays():
    K = np.array([[50.0, 0, 16.3], [0, 51, 11.2], [0, 0, 1]])
    camera = PinholeCamera(K=K, width=33, height=23)
    small = shrink_camera(camera, 2)
    assert small.shape == shrink(np.zeros(camera.shape, np.float32), 2).shape
    xy = np.array([[4.0, 6.0], [30.0, 20.0]])
    np.testing.assert_allclose(small.rays(xy / 2), camera.rays(xy))


def test_depth_is_never_mixed_across_an_edge():
    depth = np.where(np.arange(20) < 9, 1.0, 5.0)[None].repeat(20, 0).astype(np.float32)
    assert set(np.unique(shrink_depth(depth, 2))) == {1.0, 5.0}


def test_reduction_follows_the_pixel_budget():
    assert reduction((360, 540), 600_000, 2) == 2
    assert reduction((1024, 1536), 300_000, 2) == 3
    assert reduction((100, 100), 600_000, 1) == 1
