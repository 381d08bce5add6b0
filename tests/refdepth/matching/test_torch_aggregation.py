"""Scan-line aggregation as tensors: against the loops, the recurrence written out, and on a device
without numbers, where nothing can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.matching import aggregation, torch_aggregation
from tests.support.tensor_memory import TensorMemory

SMALL, LARGE = 0.05, 0.6
SHAPES = [(6, 7, 5), (23, 40, 9), (40, 23, 9), (1, 9, 4), (9, 1, 4), (5, 6, 1), (5, 6, 2)]


def inputs(shape: tuple[int, int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    height, width, _ = shape
    sizes = (shape, (height, width - 1), (height - 1, width))
    return [rng.random(size, dtype=np.float32) for size in sizes]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 1), (1, 1, 3)])
@pytest.mark.parametrize("chunk_bytes", [1, 20_000, torch_aggregation.CHUNK_BYTES])
def test_paths_cost_what_the_loops_say(shape: tuple[int, int, int], chunk_bytes: int) -> None:
    given = inputs(shape)
    expected = np.zeros(shape, np.float32)
    aggregation.aggregate(*given, SMALL, LARGE, expected)
    on = [torch.from_numpy(part) for part in given]
    found = torch_aggregation.aggregate(*on, SMALL, LARGE, chunk_bytes=chunk_bytes)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_array_equal(on[0].numpy(), inputs(shape)[0])


def test_a_path_pays_for_steps_and_jumps() -> None:
    """The cheapest way along one row, by trying all of them."""
    costs, links, _ = inputs((1, 5, 4))
    found = torch_aggregation.aggregate(
        torch.from_numpy(costs), torch.from_numpy(links), torch.empty((0, 5)), SMALL, LARGE
    )

    def ways(line: np.ndarray, link: np.ndarray, until: int) -> np.ndarray:
        """Least cost of a path that ends at each hypothesis of pixel `until`."""
        least = np.full(4, np.inf)
        for way in np.ndindex(*(4,) * (until + 1)):
            total = sum(line[i, d] for i, d in enumerate(way))
            for i in range(until):
                jump = abs(way[i + 1] - way[i])
                total += (0, SMALL)[jump] if jump < 2 else max(SMALL, LARGE * link[i])
            least[way[-1]] = min(least[way[-1]], total)
        return least

    line, link = costs[0].astype(float), links[0].astype(float)
    for x in range(5):
        # Each path less the cheapest way to the pixel before; and the columns, of one pixel.
        forth = ways(line, link, x) - (ways(line, link, x - 1).min() if x else 0)
        turned, rest = line[::-1], 4 - x
        back = ways(turned, link[::-1], rest)
        back -= ways(turned, link[::-1], rest - 1).min() if rest else 0
        np.testing.assert_allclose(found[0, x], forth + back + 2 * line[x], atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_minima_are_those_of_the_loops(shape: tuple[int, int, int]) -> None:
    total = inputs(shape)[0]
    total[0, 0] = 0.5  # of equal ones the first
    expected = np.empty(shape[:2], np.float32)
    aggregation.pick_minimum(total, expected)
    found = torch_aggregation.pick_minimum(torch.from_numpy(total))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_the_minimum_is_found_between_the_steps_but_not_beyond_them() -> None:
    d = torch.arange(9)
    inner, first, last = (d - 4.3) ** 2 / 10, d * 1.0, 8.0 - d
    found = torch_aggregation.pick_minimum(torch.stack([inner, first, last])[None])
    np.testing.assert_allclose(found, [[4.3, 0, 8]], atol=1e-4)


def test_memory_stays_within_the_limit() -> None:
    on = [torch.from_numpy(part) for part in inputs((60, 90, 21))]
    limit = 1_000_000
    with TensorMemory() as memory:
        torch_aggregation.aggregate(*on, SMALL, LARGE, chunk_bytes=limit)
    assert memory.peak < on[0].nbytes + 1.3 * limit


def test_nothing_is_read_back() -> None:
    on = [torch.from_numpy(part).to("meta") for part in inputs((6, 9, 5))]
    total = torch_aggregation.aggregate(*on, SMALL, LARGE)
    assert torch_aggregation.pick_minimum(total).shape == (6, 9)
