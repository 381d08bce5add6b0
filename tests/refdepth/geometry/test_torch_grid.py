"""Pictures and depth made smaller and larger as tensors: against arrays, whose way has tests of
its own, and on a device without numbers, where nothing can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.geometry import grid, torch_grid
from refdepth.geometry.grid import WorkGrid
from refdepth.types.camera import PinholeCamera

SHAPES = [(40, 56), (37, 53), (9, 1), (2, 3)]


def depth_with_steps(shape: tuple[int, int]) -> np.ndarray:
    """Slanted surfaces, steps between them, unknown pixels."""
    rng = np.random.default_rng(shape[0])
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = 1 / (0.3 + 0.002 * x + 0.003 * y) * np.where((x // 9 + y // 13) % 2, 1.5, 1)
    depth[rng.random(shape) < 0.05] = 0
    return depth.astype(np.float32)


def work_grid(shape: tuple[int, int], factor: int) -> WorkGrid:
    photo = PinholeCamera(K=np.diag([50.0, 50, 1]), width=shape[1], height=shape[0])
    return WorkGrid(photo=photo, factor=factor)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_depth_at_block_centres_is_the_arrays(shape: tuple[int, int], factor: int) -> None:
    depth, work = depth_with_steps(shape), work_grid(shape, factor)
    found = torch_grid.shrink_depth(torch.from_numpy(depth), factor, work.shape)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), work.shrink_depth(depth), rtol=1e-6)


@pytest.mark.parametrize("steepness", [-0.08, 0.08])
def test_steep_slopes_are_not_drawn_out_beyond_the_picture(steepness: float) -> None:
    """A last block of one pixel of five has its centre two pixels further out."""
    y, x = np.mgrid[:36, :41]
    work = work_grid((36, 41), 5)
    for along in (x, y):
        depth = np.exp(steepness * along).astype(np.float32)
        found = torch_grid.shrink_depth(torch.from_numpy(depth), 5, work.shape)
        np.testing.assert_allclose(found.numpy(), work.shrink_depth(depth), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [(1, 1), (2, 2), (3, 3), (2.5, 3.3), (0.5, 0.7)])
def test_maps_grow_as_arrays_do(shape: tuple[int, int], step: tuple[float, float]) -> None:
    depth = depth_with_steps(shape)
    known = np.where(depth > 0, depth, np.float32(2))
    size = (int(shape[0] * step[0]), int(shape[1] * step[1]))
    size = shape if step == (1, 1) else (max(size[0] - 1, 1), max(size[1] - 1, 1))
    found = torch_grid.grown(torch.from_numpy(depth), size, step).numpy()
    np.testing.assert_allclose(found, grid.grown(depth, size, step), rtol=1e-6, atol=1e-6)
    found = torch_grid.depth_grown(torch.from_numpy(known), size, step).numpy()
    np.testing.assert_allclose(found, grid.depth_grown(known, size, step), rtol=2e-6)


def test_unknown_depth_grows_where_the_arrays_does() -> None:
    depth = depth_with_steps((20, 30))
    depth[depth == 0] = np.nan
    found = torch_grid.depth_grown(torch.from_numpy(depth), (59, 88), (3, 3)).numpy()
    expected = grid.depth_grown(depth, (59, 88), (3, 3))
    assert 0.05 < np.isnan(expected).mean() < 0.5
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (37, 53, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_block_means_are_the_arrays_bit_for_bit(shape: tuple[int, ...], factor: int) -> None:
    picture = np.random.default_rng(0).random(shape, dtype=np.float32)
    found = torch_grid.block_means(torch.from_numpy(picture), factor).numpy()
    np.testing.assert_array_equal(found, grid.block_means(picture, factor))


def test_nothing_is_read_back() -> None:
    nowhere = torch.empty((37, 53), device="meta")
    assert torch_grid.shrink_depth(nowhere, 3, (13, 18)).shape == (13, 18)
    assert torch_grid.grown(nowhere, (74, 106), (2, 2)).shape == (74, 106)
    assert torch_grid.depth_grown(nowhere, (74, 106), (2, 2)).shape == (74, 106)
    assert torch_grid.block_means(nowhere, 3).shape == (13, 18)
