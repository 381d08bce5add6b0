"""Scan-line aggregation against the recurrence written out."""

import numpy as np

from refdepth.matching.aggregation import aggregate, pick_minimum


def _path(costs, links, small, large):
    """Equation 13 of Hirschmueller 2008 along one line, (N, D)."""
    n, steps = costs.shape
    out = np.empty_like(costs)
    out[0] = costs[0]
    for i in range(1, n):
        lowest = out[i - 1].min()
        for d in range(steps):
            around = [
                out[i - 1, e] + (0 if e == d else small)
                for e in range(max(d - 1, 0), min(d + 2, steps))
            ]
            jump = lowest + max(small, large * links[i - 1])
            out[i, d] = costs[i, d] + min([*around, jump]) - lowest
    return out


def test_sums_four_paths():
    rng = np.random.default_rng(0)
    volume = rng.random((6, 7, 5)).astype(np.float32)
    link_x, link_y = rng.random((6, 6)).astype(np.float32), rng.random((5, 7)).astype(np.float32)
    total = np.zeros_like(volume)
    aggregate(volume, link_x, link_y, 0.05, 0.6, total)
    expected = np.zeros(volume.shape)
    for y in range(6):
        expected[y] += _path(volume[y], link_x[y], 0.05, 0.6)
        expected[y] += _path(volume[y, ::-1], link_x[y, ::-1], 0.05, 0.6)[::-1]
    for x in range(7):
        expected[:, x] += _path(volume[:, x], link_y[:, x], 0.05, 0.6)
        expected[:, x] += _path(volume[::-1, x], link_y[::-1, x], 0.05, 0.6)[::-1]
    np.testing.assert_allclose(total, expected, atol=1e-5)


def test_the_minimum_is_found_between_the_steps():
    d = np.arange(9)
    costs = ((d - 4.3) ** 2 / 10).astype(np.float32)
    position = np.empty((1, 1), np.float32)
    pick_minimum(np.tile(costs, (1, 1, 1)), position)
    np.testing.assert_allclose(position[0, 0], 4.3, atol=1e-4)


def test_a_minimum_at_the_end_of_the_list_is_not_extrapolated():
    costs = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    position = np.empty((1, 1), np.float32)
    pick_minimum(costs, position)
    assert position[0, 0] == 0
