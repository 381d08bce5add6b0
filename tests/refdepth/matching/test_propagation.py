"""The grid solver against scipy's direct solver, and what spreading must do."""

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg as linalg

from refdepth.matching.propagation import GridSystem, propagate


def _direct(w, wx, wy, rhs):
    height, width = w.shape
    index = np.arange(height * width).reshape(height, width)
    i = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    j = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    c = np.concatenate([wx.ravel(), wy.ravel()])
    laplacian = sparse.coo_matrix(
        (np.concatenate([-c, -c, c, c]), (np.r_[i, j, i, j], np.r_[j, i, i, j])),
        (index.size, index.size),
    )
    matrix = (laplacian + sparse.diags(w.ravel())).tocsc()
    return linalg.spsolve(matrix, rhs.ravel()).reshape(w.shape)


def test_agrees_with_a_direct_solver_on_uneven_ground():
    rng = np.random.default_rng(0)
    height, width = 41, 58
    w = np.where(rng.random((height, width)) < 0.1, rng.random((height, width)), 0) + 1e-3
    wx = 8 * np.exp(-6 * rng.random((height, width - 1)))
    wy = 8 * np.exp(-6 * rng.random((height - 1, width)))
    wx[:, 20] = 1e-4
    rhs = w * rng.normal(size=w.shape)
    expected = _direct(w, wx, wy, rhs)
    x = GridSystem(w, wx, wy).solve(rhs, tolerance=1e-10)
    np.testing.assert_allclose(x, expected, atol=1e-7 * np.abs(expected).max())


def test_few_iterations_are_enough_for_the_default_tolerance():
    rng = np.random.default_rng(1)
    w = np.where(rng.random((120, 160)) < 0.02, 1.0, 0.0) + 1e-3
    wx, wy = np.full((120, 159), 8.0), np.full((119, 160), 8.0)
    rhs = w * rng.normal(size=w.shape)
    exact = _direct(w, wx, wy, rhs)
    x = GridSystem(w, wx, wy).solve(rhs, limit=20)
    assert np.abs(x - exact).max() < 0.01 * np.abs(exact).max()


def _spread(values, weights, link_x, **changes):
    shape = values.shape[-2:]
    options = {"smoothness": 8.0, "outlier": 0.03, "anchor": 1e-6, "rounds": 3} | changes
    link_y = np.ones((shape[0] - 1, shape[1]), np.float32)
    return propagate(
        values.astype(np.float32), weights.astype(np.float32), link_x, link_y, **options
    )


def test_a_correction_fills_its_surface_and_stops_at_the_edge():
    values, weights = np.zeros((1, 20, 30)), np.zeros((1, 20, 30))
    values[0, 10, 3], weights[0, 10, 3] = 0.1, 1
    values[0, 10, 25], weights[0, 10, 25] = -0.05, 1
    link_x = np.ones((20, 29), np.float32)
    link_x[:, 14] = 0
    x = _spread(values, weights, link_x)
    np.testing.assert_allclose(x[:, :15], 0.1, atol=2e-3)
    np.testing.assert_allclose(x[:, 15:], -0.05, atol=2e-3)


def test_an_outlier_among_agreeing_opinions_is_overruled():
    values, weights = np.full((5, 12, 12), 0.04), np.ones((5, 12, 12))
    values[0] = -0.2
    x = _spread(values, weights, np.ones((12, 11), np.float32), rounds=6)
    np.testing.assert_allclose(x, 0.04, atol=4e-3)


def test_twicing_is_two_solves_of_which_the_second_has_what_the_first_left() -> None:
    """Without outliers: x + (W + L)^-1 W (v - x) from x = (W + L)^-1 W v, by a direct solver."""
    rng = np.random.default_rng(3)
    values, weights = rng.normal(0, 0.01, (14, 19)), rng.random((14, 19))
    link_x, link_y = np.full((14, 18), 0.7, np.float32), np.ones((13, 19), np.float32)
    given = values, weights + 1e-6, 8 * link_x.astype(float), 8 * link_y.astype(float)
    once = _direct(*given[1:], weights * values)
    twice = once + _direct(*given[1:], weights * (values - once))
    far = {"outlier": 1e3, "rounds": 2}
    x = _spread(values[None], weights[None], link_x, **far)
    np.testing.assert_allclose(x, once, atol=1e-6)
    x = _spread(values[None], weights[None], link_x, **far, twicing=True)
    np.testing.assert_allclose(x, twice, atol=1e-6)


def test_twicing_keeps_a_slope_and_does_without_noise() -> None:
    rng = np.random.default_rng(4)
    slope = np.tile(0.02 * np.sin(np.arange(60) / 6), (50, 1))
    noisy = slope + rng.normal(0, 0.004, slope.shape)
    links, weights = np.ones((50, 59), np.float32), np.ones((1, *slope.shape))

    def error(of: np.ndarray, **how: bool) -> float:
        return float(np.sqrt(np.mean((_spread(of[None], weights, links, **how) - slope) ** 2)))

    assert error(slope, twicing=True) < 0.4 * error(slope)
    assert error(noisy, twicing=True) < min(0.7 * error(noisy), 0.4 * 0.004)


def test_the_result_stays_within_the_range_of_its_data():
    rng = np.random.default_rng(2)
    values, weights = rng.uniform(0.2, 0.7, (1, 25, 25)), rng.random((1, 25, 25)) ** 8
    x = _spread(values, weights, rng.random((25, 24)).astype(np.float32), anchor=0.0)
    assert x.min() >= 0.2 - 1e-3
    assert x.max() <= 0.7 + 1e-3


def test_unsure_opinions_are_averaged_where_sure_ones_take_sides():
    values = np.stack([np.zeros((9, 9)), np.full((9, 9), 0.1), np.full((9, 9), 0.02)])
    start = np.zeros((9, 9), np.float32)
    links = np.ones((9, 8), np.float32)

    def middle(weight, sure):
        weights = np.full(values.shape, weight)
        options = {"rounds": 60, "anchor": 0.0, "outlier": 0.01, "start": start, "sure": sure}
        return _spread(values, weights, links, **options)[4, 4]

    # Worked by hand: the fixed point of sum w (x - v) / (1 + ((x - v) / width)^2) = 0.
    def balance(x, width):
        return sum((x - v) / (1 + ((x - v) / width) ** 2) for v in (0.0, 0.1, 0.02))

    for weight, sure, width in ((1.0, 0.25, 0.01), (0.05, 0.0, 0.01), (0.05, 0.25, 0.05)):
        x = middle(weight, sure)
        assert abs(balance(x, width)) < 2e-4
    assert middle(0.05, 0.25) > 0.02 > middle(1.0, 0.25)


def test_stiff_surfaces_with_little_data_are_solved_to_the_tolerance():
    """As evidence is pooled: stiff within surfaces, next to nothing between them, few weights."""
    rng = np.random.default_rng(2)
    height, width = 270, 360
    w = np.where(rng.random((height, width)) < 0.5, 0.3, 0.0) + 0.01
    edges = rng.random((height, width)) < 0.5
    wx = 1000 * np.where(edges[:, 1:], 1e-5, np.exp(-3 * rng.random((height, width - 1))))
    wy = 1000 * np.where(edges[1:], 1e-5, np.exp(-3 * rng.random((height - 1, width))))
    rhs = w * rng.normal(size=w.shape)
    x = GridSystem(w, wx, wy).solve(rhs)
    applied = w * x
    applied[:, 1:] += wx * x[:, 1:]
    applied[:, :-1] += wx * x[:, :-1]
    applied[1:] += wy * x[1:]
    applied[:-1] += wy * x[:-1]
    applied[:, 1:] -= wx * x[:, :-1]
    applied[:, :-1] -= wx * x[:, 1:]
    applied[1:] -= wy * x[:-1]
    applied[:-1] -= wy * x[1:]
    assert np.linalg.norm(rhs - applied) <= 1.01e-4 * np.linalg.norm(rhs)
