"""The working grid and the photo's grid look at the same rays."""

import numpy as np
import pytest

from refdepth.geometry.grid import WorkGrid, depth_grown, grown
from refdepth.types.camera import PinholeCamera


def grid_of(height, width, factor):
    K = np.array([[50.0, 0, width / 2 + 0.3], [0, 51, height / 2 - 0.2], [0, 0, 1]])
    return WorkGrid(photo=PinholeCamera(K=K, width=width, height=height), factor=factor)


def plane(camera, normal, offset=4.0):
    """Exact depth of the plane normal . X = offset (H, W)."""
    return (offset / (camera.rays() @ np.asarray(normal))).astype(np.float32)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_ramp_survives_shrinking_and_growing(factor):
    height, width = 23, 32
    x = np.arange(width, dtype=np.float32) + 0.5
    ramp = np.tile(x, (height, 1))
    grid = grid_of(height, width, factor)
    back = grid.grow(grid.shrink(ramp))
    inner = slice(factor, width - 2 * factor)
    np.testing.assert_allclose(back[:, inner], ramp[:, inner], atol=1e-5)


def test_the_shrunk_camera_sees_the_same_rays():
    grid = grid_of(23, 33, 2)
    assert grid.shape == grid.shrink(np.zeros((23, 33), np.float32)).shape
    xy = np.array([[4.0, 6.0], [30.0, 20.0]])
    np.testing.assert_allclose(grid.camera.rays(xy / 2), grid.photo.rays(xy))


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [(60, 80), (61, 83)])
def test_a_slanted_plane_is_exact_on_the_grid_and_back(factor, size):
    grid = grid_of(*size, factor)
    normal = [0.35, -0.25, 1.0]
    photo = plane(grid.photo, normal)
    small = grid.shrink_depth(photo)
    # The truth on the grid is what the grid's own camera sees, pixel by pixel.
    np.testing.assert_allclose(small, plane(grid.camera, normal), rtol=1e-5)
    np.testing.assert_allclose(grid.grow_depth(small), photo, rtol=1e-5)


def test_depth_is_never_mixed_across_an_edge():
    for edge in (9, 10, 11):
        depth = np.where(np.arange(20) < edge, 1.0, 5.0)[None].repeat(20, 0).astype(np.float32)
        for factor in (2, 3, 4):
            assert set(np.unique(grid_of(20, 20, factor).shrink_depth(depth))) == {1.0, 5.0}


def test_unknown_depth_is_not_mixed_in():
    depth = np.full((20, 20), 2.0, np.float32)
    depth[5:9, 7:13] = 0
    small = grid_of(20, 20, 2).shrink_depth(depth)
    assert set(np.unique(small)) == {0.0, 2.0}
    assert (small[3, 4:6] == 0).all()


def test_a_block_is_usable_where_all_of_it_is():
    mask = np.ones((10, 10), bool)
    mask[3, 4] = False
    usable = grid_of(10, 10, 2).shrink_mask(mask)
    assert not usable[1, 2]
    assert usable.sum() == 24


def test_the_grid_follows_the_pixel_budget():
    def factor(height, width, pixels, least):
        camera = grid_of(height, width, 1).photo
        return WorkGrid.for_photo(camera, max_pixels=pixels, least_factor=least).factor

    assert factor(360, 540, 600_000, 2) == 2
    assert factor(1024, 1536, 300_000, 2) == 3
    assert factor(100, 100, 600_000, 1) == 1


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected the photo's grid"):
        grid_of(20, 30, 2).shrink(np.zeros((30, 20), np.float32))


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_blocks_repeat_their_values_over_the_photo(factor: int) -> None:
    camera = PinholeCamera(K=np.diag([50.0, 50, 1]), width=43, height=29)
    grid = WorkGrid(photo=camera, factor=factor)
    rng = np.random.default_rng(0)
    values = rng.random(grid.shape).astype(np.float32)
    y, x = np.mgrid[:29, :43]
    np.testing.assert_array_equal(grid.repeat(values), values[y // factor, x // factor])


@pytest.mark.parametrize("step", [(2.5, 3.25), (1.0, 1.5), (4, 4)])
def test_maps_of_any_step_grow_to_the_plane_they_sample(step: tuple[float, float]) -> None:
    height, width = 60, 78
    rows, columns = -(-height // step[0]), -(-width // step[1])
    y, x = (np.arange(rows) + 0.5) * step[0], (np.arange(columns) + 0.5) * step[1]
    plane = (2 + 0.01 * y[:, None] + 0.02 * x).astype(np.float32)
    whole = 2 + 0.01 * (np.arange(height) + 0.5)[:, None] + 0.02 * (np.arange(width) + 0.5)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(grown(plane, (height, width), step)[inner], whole[inner], rtol=1e-5)
    found = depth_grown(1 / plane, (height, width), step)
    np.testing.assert_allclose(found, 1 / whole, rtol=1e-4)
