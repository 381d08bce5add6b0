"""The scene's curve of confidence, against samples whose chances are known."""

from dataclasses import replace

import numpy as np
import pytest

from refdepth.geometry.grid import WorkGrid
from refdepth.refine.calibration import BINS, WRONG_POINTS, Calibration, Evidence
from refdepth.refine.confidence import Trust
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import SparseDepth

CAMERA = PinholeCamera(K=np.array([[50.0, 0, 40], [0, 50, 30], [0, 0, 1]]), width=80, height=60)
GRID = WorkGrid(photo=CAMERA, factor=2)


def points(index: np.ndarray, **changes) -> SparseDepth:
    count = len(index)
    values = {
        "xy": np.tile([10.5, 8.5], (count, 1)),
        "depth": np.full(count, 2.0),
        "error_px": np.full(count, 0.5),
        "track_length": np.full(count, 5),
        "point_index": np.asarray(index, np.int64),
    }
    return SparseDepth(**(values | changes))


def pixels(order: np.ndarray, chance: np.ndarray) -> Evidence:
    trust = Trust(order=order.astype(np.float32), chance=chance.astype(np.float32))
    return Evidence.of(trust, GRID, np.ones(CAMERA.shape, np.float32), None)


def judged(evidence: Evidence, order: np.ndarray, right: np.ndarray) -> Evidence:
    error = np.where(right, 0.01, 0.2)
    return replace(evidence, order=order, error=error, weight=np.ones(len(order)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_the_curve_is_the_mean_chance_at_an_order_and_keeps_the_order(rng) -> None:
    order = rng.uniform(0.01, 0.99, (400, 300))
    noise = rng.uniform(-0.1, 0.1, order.shape)
    curve = Calibration.of([pixels(order, 0.2 + 0.7 * order + noise)])
    asked = np.linspace(0.02, 0.98, 200, dtype=np.float32)
    stated = curve.apply(asked)
    np.testing.assert_allclose(stated, 0.2 + 0.7 * asked, atol=0.015)
    assert (np.diff(stated) > 0).all()
    assert curve.offset == 0


def test_chances_that_fall_with_the_order_give_one_level_that_still_tells_pixels_apart(rng) -> None:
    order = rng.uniform(0.01, 0.99, (100, 100))
    curve = Calibration.of([pixels(order, 0.9 - 0.8 * order)])
    stated = curve.apply(np.linspace(0.02, 0.98, 50, dtype=np.float32))
    np.testing.assert_allclose(stated, 0.5, atol=0.02)
    assert (np.diff(stated) > 0).all()


def test_points_that_are_wrong_more_often_than_stated_lower_the_curve(rng) -> None:
    order = rng.uniform(0.01, 0.99, (100, 100))
    seen = pixels(order, np.full(order.shape, 0.8))
    right = rng.uniform(size=4000) < 0.4 * (1 - WRONG_POINTS)
    curve = Calibration.of([judged(seen, rng.uniform(0.1, 0.9, 4000), right)])
    stated = curve.apply(order.astype(np.float32))
    assert stated.mean() == pytest.approx(0.4, abs=0.03)
    few = Calibration.of([judged(seen, np.full(3, 0.5), np.zeros(3, bool))])
    assert curve.offset < few.offset < 0
    assert few.apply(order.astype(np.float32)).mean() > 0.5


def test_points_that_are_right_more_often_than_stated_say_nothing_about_plain_surfaces(rng) -> None:
    order = rng.uniform(0.01, 0.99, (100, 100))
    seen = pixels(order, np.full(order.shape, 0.5))
    curve = Calibration.of([judged(seen, np.full(500, 0.5), np.ones(500, bool))])
    assert curve.offset == 0
    assert curve.points == 500


def test_what_is_unknown_has_no_confidence_and_nothing_known_gives_a_curve_all_the_same() -> None:
    nothing = Calibration.of(
        [Evidence.of(Trust.none(GRID.shape), GRID, np.zeros(CAMERA.shape), None)]
    )
    assert len(nothing.confidence) == BINS
    assert not nothing.apply(np.zeros((3, 4), np.float32)).any()
    assert Calibration.of([]).confidence == nothing.confidence


def test_the_depth_is_judged_at_the_pixels_of_the_points() -> None:
    depth = np.full(CAMERA.shape, 2.0, np.float32)
    depth[8, 10] = 2.1
    depth[:, 70:] = 0
    order = np.full(GRID.shape, 0.3, np.float32)
    order[4, 5] = 0.7
    trust = Trust(order=order, chance=order)
    given = points(
        np.arange(3),
        xy=np.array([[10.5, 8.5], [30.5, 40.5], [72.5, 8.5]]),
        track_length=np.array([5, 8, 4]),
    )
    found = Evidence.of(trust, GRID, depth, given)
    np.testing.assert_allclose(found.error, [0.05, 0], atol=1e-6)
    np.testing.assert_allclose(found.order, [0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(found.weight, [1 / 5, 1 / 8])
    again = Evidence.from_dict(found.to_dict())
    assert Calibration.of([again]) == Calibration.of([found])
