"""Stated against true shares, worked out by hand."""

import numpy as np
import pytest

from refdepth.evaluation.reliability import reliability


def test_bins_and_gap_of_five_pixels() -> None:
    found = reliability([0.01, 0.5, 0.02, 0.03, 0.04], [0.15, 0.12, 0.95, 1.0, 0.97])
    low, high = found["bins"]
    assert (low["low"], low["high"], low["count"]) == (0.1, 0.2, 2)
    assert low["stated"] == pytest.approx(0.135)
    assert low["true"] == 0.5
    assert high["count"] == 3
    assert high["true"] == pytest.approx(2 / 3)
    assert high["stated"] == pytest.approx(2.92 / 3)
    assert found["gap"] == pytest.approx((2 * (0.5 - 0.135) + (2.92 - 2)) / 5)
    assert found["true"] == pytest.approx(0.6)
    assert found["count"] == 5


def test_confidence_that_is_a_probability_has_no_gap() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=200_000)
    error = np.where(rng.uniform(size=confidence.size) < confidence, 0.0, 1.0)
    assert reliability(error, confidence)["gap"] < 0.005
    assert reliability(error, confidence**2)["gap"] > 0.15


@pytest.mark.parametrize(
    ("error", "confidence"),
    [([], []), ([0.1], [0.1, 0.2]), ([0.1], [1.5]), ([0.1], [np.nan])],
)
def test_what_is_no_confidence_is_refused(error: list[float], confidence: list[float]) -> None:
    with pytest.raises(ValueError, match="confidence"):
        reliability(error, confidence)
