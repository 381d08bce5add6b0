"""Extremes in windows, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.geometry.filters import maximum_filter, minimum_filter


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("shape", [(9, 14), (5, 4)])
def test_arrays_and_tensors_give_the_extremes_of_every_window(
    side: int, shape: tuple[int, int]
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[2, 3] = np.inf
    reach = side // 2
    windows = [
        [
            values[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            for x in range(shape[1])
        ]
        for y in range(shape[0])
    ]
    for ours, theirs in ((maximum_filter, np.max), (minimum_filter, np.min)):
        expected = [[theirs(window) for window in row] for row in windows]
        np.testing.assert_array_equal(ours(values, side), expected)
        np.testing.assert_array_equal(ours(torch.from_numpy(values), side).numpy(), expected)
