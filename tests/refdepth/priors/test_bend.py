"""The bend: takes away what varies slowly, follows no outlier, and knows when it does not help."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from refdepth.priors.bend import Bend, fit_bend
from refdepth.priors.kriging_kernels import factorise, solve, solve_blocks

SHAPE = (120, 160)


def places(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, [SHAPE[1], SHAPE[0]], (count, 2))


def bump(xy: np.ndarray) -> np.ndarray:
    """A log ratio that varies on the scale of half the picture."""
    return 0.15 * np.sin(xy[..., 0] / 30) * np.cos(xy[..., 1] / 40)


def pixels() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    return np.stack([x, y], axis=-1)


def bent(xy: np.ndarray, ratio: np.ndarray) -> tuple[Bend | None, np.ndarray, np.ndarray]:
    return fit_bend(xy, ratio, np.ones(len(xy)), SHAPE)


def test_a_slow_error_is_taken_away_between_the_points() -> None:
    xy = places(250)
    bend, before, after = bent(xy, bump(xy))
    assert bend is not None
    left = np.abs(np.log(bend.factor(SHAPE)) - bump(pixels()))
    assert np.median(left) < 0.1 * np.median(np.abs(bump(pixels())))
    assert np.median(np.abs(before)) == pytest.approx(np.median(np.abs(bump(xy))))
    assert np.median(np.abs(after)) < 0.2 * np.median(np.abs(before))


def test_left_out_errors_tell_the_error_where_no_points_are() -> None:
    # Half of the variation is too quick for the points: they would hide it, left-out ones do not.
    rng = np.random.default_rng(1)
    xy = places(200)
    noise = rng.normal(0, 0.1, 200)
    _, _, after = bent(xy, bump(xy) + noise)
    expected = np.median(np.abs(rng.normal(0, 0.1, 10_000)))
    assert 0.9 * expected < np.median(np.abs(after)) < 1.6 * expected


def test_two_points_in_ten_may_be_wrong() -> None:
    xy = places(250)
    ratio = bump(xy)
    rng = np.random.default_rng(2)
    wrong = rng.choice(250, 50, replace=False)
    ratio[wrong] += rng.choice([-1, 1], 50) * rng.uniform(0.5, 2.0, 50)
    bend, _, _ = bent(xy, ratio)
    assert bend is not None
    left = np.abs(np.log(bend.factor(SHAPE)) - bump(pixels()))
    assert np.median(left) < 0.03
    assert left.max() < 0.3


@pytest.mark.parametrize("count", [0, 1, 23])
def test_few_points_bend_nothing(count: int) -> None:
    xy = places(count)
    bend, before, after = bent(xy, bump(xy))
    assert bend is None
    np.testing.assert_array_equal(before, bump(xy))
    np.testing.assert_array_equal(after, before)


def test_errors_without_a_pattern_bend_rarely_and_little() -> None:
    bends = [
        bent(places(200, seed), np.random.default_rng(seed).normal(0, 0.05, 200))[0]
        for seed in range(12)
    ]
    by_chance = [bend for bend in bends if bend is not None]
    assert len(by_chance) <= 3
    assert all(np.median(np.abs(bend.nodes)) < 0.02 for bend in by_chance)


def test_far_from_points_and_beyond_them_nothing_grows() -> None:
    xy = places(200) * [0.3, 0.3]
    ratio = 0.1 + 0.01 * xy[:, 0]
    bend, _, _ = bent(xy, ratio)
    assert bend is not None
    factor = np.log(bend.factor(SHAPE))
    assert factor.min() >= -1e-4
    assert factor.max() <= ratio.max() + 1e-4
    assert factor[-1, -1] < 0.5 * ratio.max()


def test_many_points_are_thinned_evenly_and_their_order_does_not_matter() -> None:
    xy = np.concatenate([SHAPE[::-1] - 0.2 * places(3000, 1), places(200)])
    ratio = bump(xy)
    bend, before, _ = bent(xy, ratio)
    assert bend is not None
    assert len(before) == 300
    left = np.abs(np.log(bend.factor(SHAPE)) - bump(pixels()))
    assert np.quantile(left, 0.9) < 0.03  # the crowd did not crowd the others out
    mixed = np.random.default_rng(0).permutation(len(xy))
    again, _, _ = bent(xy[mixed], ratio[mixed])
    assert again is not None
    np.testing.assert_allclose(again.nodes, bend.nodes, atol=2e-5)


def test_the_factor_is_bilinear_between_nodes_that_reach_the_borders() -> None:
    bend = Bend(nodes=((0.0, 0.4), (0.2, 0.6)), reach=0.2, tolerance=0.02)
    x, y = (pixels()[..., i] / size for i, size in enumerate(SHAPE[::-1]))
    np.testing.assert_allclose(bend.factor(SHAPE), np.exp(0.4 * x + 0.2 * y), rtol=1e-6)


def test_a_bend_survives_json() -> None:
    bend, _, _ = bent(places(100), bump(places(100)))
    assert bend is not None
    assert Bend.from_dict(json.loads(json.dumps(asdict(bend)))) == bend


def test_kernels_agree_with_numpy_and_leave_out_as_solving_anew_does() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(40, 40))
    A, b = root @ root.T + np.eye(40), rng.normal(size=40)
    factor, x = A.copy(), b.copy()
    factorise(factor)
    np.testing.assert_allclose(np.triu(factor), np.linalg.cholesky(A).T, atol=1e-10)
    solve(factor, x)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), atol=1e-8)
    missed = x.copy()
    ends = np.array([7, 7, 25, 40])
    solve_blocks(factor, missed, ends)
    for held in (np.arange(7), np.arange(7, 25), np.arange(25, 40)):
        rest = np.setdiff1d(np.arange(40), held)
        guess = A[np.ix_(held, rest)] @ np.linalg.solve(A[np.ix_(rest, rest)], b[rest])
        np.testing.assert_allclose(missed[held], b[held] - guess, atol=1e-8)
