"""Neighbours' depth maps as tensors: against the loops, and on a device without numbers, where
nothing can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.refine import torch_transfer, transfer_kernels

SHAPE = (40, 57)
SIZES = [(40, 56), (33, 48), (36, 61)]


def sources(count: int, steep: float = 0.0) -> tuple[np.ndarray, ...]:
    """Depth maps with steps and unknown pixels, what lies beyond each one's size being nonsense,
    their confidences, and how they project into the reference."""
    rng = np.random.default_rng(3)
    sizes = SIZES[:count]
    largest = np.max(sizes, axis=0) if count else (0, 0)
    depths = np.full((2, count, *largest), 1.5, np.float32)
    A, b = np.empty((count, 3, 3)), np.empty((count, 3))
    for i, (height, width) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        depth = 2 + 0.01 * x + steep * y + 1.3 * ((x // 12 + y // 9) % 2)
        depth[rng.random(depth.shape) < 0.1] = 0
        depths[0, i, :height, :width] = depth
        depths[1, i, :height, :width] = rng.random(depth.shape)
        scale = SHAPE[1] / width
        A[i] = np.array([[scale, 0.02, -2], [-0.03, scale, 1], [0.0004, 0.0002, 1]])
        b[i] = rng.normal(0, [8, 3, 0.1])
    return depths, A, b


def both_ways(depths: np.ndarray, A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(A)
    sizes = SIZES[:count]
    loops = np.empty((2, count, *SHAPE), np.float32)
    array = np.array(sizes, np.int64).reshape(-1, 2)
    transfer_kernels.splat(depths[0], depths[1], array, A, b, loops[0], loops[1])
    there = [torch.from_numpy(part) for part in (depths[0], depths[1])]
    on = [torch.from_numpy(part) for part in (A, b)]
    found = torch.stack(torch_transfer.splat(*there, sizes, *on, SHAPE))
    assert found.dtype == torch.float32
    return found.numpy(), loops


@pytest.mark.parametrize("count", [0, 1, 3])
def test_points_fall_where_the_loop_puts_them(count: int) -> None:
    found, loops = both_ways(*sources(count))
    assert found.shape == (2, count, *SHAPE)
    if not count:
        return
    assert 0.4 < (loops[0] > 0).mean() < 0.99
    np.testing.assert_array_equal(found[0] > 0, loops[0] > 0)
    same = np.isclose(found[0], loops[0], rtol=1e-6) & (found[1] == loops[1])
    assert same.mean() > 0.999


def test_single_precision_moves_hardly_a_point() -> None:
    depths, A, b = sources(3)
    found, loops = both_ways(depths, A.astype(np.float32), b.astype(np.float32))
    assert np.isclose(found[0], loops[0], rtol=1e-5).mean() > 0.995


def test_the_nearest_surface_counts_and_of_that_the_point_at_the_centre() -> None:
    """Nine source pixels to one of the reference."""
    depth = np.full((6, 6), 5.0, np.float32)
    depth[0, 0] = 2.0  # before the rest
    depth[3:, 3:] = [[4.0, 4.05, 4.1], [4.0, 4.05, 4.1], [4.0, 4.05, 4.1]]
    confidence = np.arange(36, dtype=np.float32).reshape(6, 6) / 36
    A, b = np.diag([1 / 3, 1 / 3, 1])[None], np.zeros((1, 3))
    there = [torch.from_numpy(part[None]) for part in (depth, confidence)]
    on = [torch.from_numpy(part) for part in (A, b)]
    seen, sure = torch_transfer.splat(*there, [(6, 6)], *on, (2, 2))
    np.testing.assert_allclose(seen[0], [[2, 5], [5, 4.05]])
    np.testing.assert_array_equal(sure[0], confidence[[0, 1, 4, 4], [0, 4, 1, 4]].reshape(2, 2))


def test_points_behind_or_beside_the_picture_are_not_drawn() -> None:
    depth = torch.full((1, 4, 4), 2.0)
    A = torch.tensor([[[1.0, 0, -4], [0, 1, -4], [0, 0, 1]]])
    # The last two lie behind: their signs would put them into the picture.
    for away in ([100.0, 0, 0], [-100.0, 0, 0], [0, 0, 0], [0, 0, -2.0], [0, 0, -5.0]):
        b = torch.tensor([away])
        seen, _ = torch_transfer.splat(depth, depth, [(4, 4)], A, b, (4, 4))
        assert not seen.any()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_votes_are_the_loops(count: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.05, (count, 20, 31)).astype(np.float32)
    weights = rng.random(values.shape, dtype=np.float32) * (rng.random(values.shape) > 0.3)
    weights = weights.astype(np.float32)
    values[weights == 0] = np.nan
    changes = np.linspace(-0.1, 0.1, 9, dtype=np.float32)
    loops = np.zeros((20, 31, 9), np.float32)
    transfer_kernels.vote(values, weights, changes, 0.02, 0.3, loops)
    on = [torch.from_numpy(part) for part in (values, weights, changes)]
    found = torch_transfer.vote(*on, 0.02, 0.3)
    np.testing.assert_allclose(found.numpy(), loops, rtol=1e-6, atol=1e-7)
    assert (loops > 0).any() == bool(count)


def test_a_vote_grows_with_the_square_of_the_distance_up_to_the_tolerance() -> None:
    value, weight = torch.full((1, 1, 1), 0.01), torch.full((1, 1, 1), 0.5)
    cost = torch_transfer.vote(value, weight, torch.tensor([0.01, 0.02, 0.03, 0.5]), 0.02, 0.4)
    np.testing.assert_allclose(cost[0, 0], [0, 0.05, 0.2, 0.2], atol=1e-6)


def test_nothing_is_read_back() -> None:
    maps = torch.empty((3, 40, 61), device="meta")
    A, b = torch.empty((3, 3, 3), device="meta"), torch.empty((3, 3), device="meta")
    seen, _ = torch_transfer.splat(maps, maps, SIZES, A, b, SHAPE)
    assert seen.shape == (3, *SHAPE)
    changes = torch.empty(5, device="meta")
    assert torch_transfer.vote(maps, maps, changes, 0.1, 0.1).shape == (40, 61, 5)
