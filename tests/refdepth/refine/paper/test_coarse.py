from __future__ import annotations

import numpy as np
import pytest

from refdepth.refine.paper.coarse import coarse_refine
from refdepth.refine.paper.settings import CoarseSettings
from refdepth.types.scene import SparseDepth

HEIGHT, WIDTH = 60, 80
SETTINGS = CoarseSettings(iterations=150, shape_samples=300)


def truth() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    return (3 + 2 * x + np.sin(4 * y)).astype(np.float32)


def warped(depth: np.ndarray) -> np.ndarray:
    """A prior's typical mistake: a smooth distortion over the picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    return (depth * np.exp(0.12 * np.cos(2 * x + 1) * np.sin(2 * y))).astype(np.float32)


def points(depth: np.ndarray, count: int = 200, seed: int = 0, noise: float = 0.0) -> SparseDepth:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, [WIDTH, HEIGHT], (count, 2))
    z = depth[xy[:, 1].astype(int), xy[:, 0].astype(int)] * np.exp(noise * rng.normal(size=count))
    return SparseDepth(
        xy=xy,
        depth=z.astype(np.float64),
        error_px=np.full(count, 0.5),
        track_length=np.full(count, 4),
        point_index=np.arange(count),
    )


def error(depth: np.ndarray) -> float:
    return float(np.abs(depth / truth() - 1).mean())


def test_takes_most_of_a_smooth_distortion_away() -> None:
    start = warped(truth())
    found = coarse_refine(start, points(truth()), SETTINGS, seed=0)
    assert found.dtype == np.float32
    assert error(found) < 0.5 * error(start)


def test_does_not_depend_on_the_unit_of_length() -> None:
    start = warped(truth())
    found = coarse_refine(start, points(truth()), SETTINGS, seed=0)
    thousand = np.float32(1024)
    scaled = coarse_refine(start * thousand, points(truth() * thousand), SETTINGS, seed=0)
    np.testing.assert_allclose(scaled, found * thousand, rtol=1e-3)


def test_too_few_points_leave_the_prior_as_it_is() -> None:
    start = warped(truth())
    few = points(truth(), SETTINGS.min_points - 1)
    assert coarse_refine(start, few, SETTINGS, seed=0) is start
    assert coarse_refine(start, points(truth(), 0), SETTINGS, seed=0) is start


def test_points_without_prior_do_not_count() -> None:
    start = warped(truth())
    start[:, : WIDTH - 4] = 0
    assert coarse_refine(start, points(truth()), SETTINGS, seed=0) is start


def test_a_prior_that_is_right_is_not_bent_after_noisy_points() -> None:
    start = truth()
    found = coarse_refine(start, points(truth(), 60, noise=0.2), SETTINGS, seed=0)
    assert error(found) < 0.02


def test_unknown_depth_stays_unknown_and_the_rest_positive() -> None:
    start = warped(truth())
    start[10:30, 20:50] = 0
    found = coarse_refine(start, points(truth()), SETTINGS, seed=0)
    assert ((found > 0) == (start > 0)).all()
    assert np.isfinite(found).all()


def test_same_seed_same_result() -> None:
    start = warped(truth())
    first, second = (coarse_refine(start, points(truth()), SETTINGS, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_points_on_the_border_are_taken(shift: float) -> None:
    start = warped(truth())
    sparse = points(truth())
    moved = SparseDepth(
        xy=sparse.xy + shift,
        depth=sparse.depth,
        error_px=sparse.error_px,
        track_length=sparse.track_length,
        point_index=sparse.point_index,
    )
    assert coarse_refine(start, moved, SETTINGS, seed=0).shape == start.shape
