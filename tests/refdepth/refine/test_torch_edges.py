"""Sharp edges as tensors: against the loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.refine import edges, torch_edges


def log_depth(shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(shape[1])
    values = rng.normal(0, 0.1, shape).astype(np.float32)
    values[rng.random(shape) < 0.1] = np.nan
    return values


@pytest.mark.parametrize("shape", [(40, 56), (37, 5), (1, 9), (4, 1)])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_gaps_are_the_loops_bit_for_bit(shape: tuple[int, int], reach: int) -> None:
    values = log_depth(shape)
    expected = np.empty_like(values)
    edges.gaps(values, reach, expected)
    found = torch_edges.gaps(torch.from_numpy(values), reach)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_gaps_are_not_read_back() -> None:
    assert torch_edges.gaps(torch.empty((40, 56), device="meta"), 2).shape == (40, 56)


@pytest.mark.parametrize("chunk_bytes", [300_000, torch_edges.CHUNK_BYTES])
@pytest.mark.parametrize("taps", [[-2, -1, 0, 1, 2], [-3, 0, 3]])
def test_pixels_move_where_the_loop_moves_them(
    chunk_bytes: int, taps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_edges, "CHUNK_BYTES", chunk_bytes)
    values = log_depth((40, 57))
    rng = np.random.default_rng(1)
    image = rng.random((*values.shape, 3), dtype=np.float32)
    smeared, solid = rng.random(values.shape) < 0.4, rng.random(values.shape, dtype=np.float32)
    expected = np.empty_like(values)
    offsets = np.array(taps, np.int64)
    edges.move_to_a_side(values, smeared, solid, image, 1.0, offsets, 0.8, 0.02, expected)
    on = [torch.from_numpy(part) for part in (values, smeared, solid, image)]
    found = torch_edges.move_to_a_side(*on, offsets, 0.8, 0.02).numpy()
    assert (expected != values)[smeared & ~np.isnan(values)].mean() > 0.3
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(on[0].numpy(), values)


def test_a_picture_without_smeared_pixels_stays() -> None:
    values = log_depth((7, 9))
    none = torch.zeros(values.shape, dtype=torch.bool)
    on = torch.from_numpy(values)
    image = torch.zeros((*values.shape, 3))
    found = torch_edges.move_to_a_side(on, none, on, image, np.array([-1, 0, 1]), 0.3, 0.05)
    np.testing.assert_array_equal(found.numpy(), values)
