"""Several measurements, several sources: what is averaged, left out, said."""

from __future__ import annotations

import numpy as np
import pytest

from refdepth.metric.estimate import (
    Estimate,
    Measurement,
    Source,
    chosen,
    contradictions,
    joined,
)


def measured(value: float, error: float = 0.01, what: str = "it") -> Measurement:
    return Measurement(what=what, metres_per_unit=value, relative_error=error)


def estimate(source: Source, value: float, error: float) -> Estimate:
    return joined(source, [measured(value, error)])


def test_the_error_of_a_mean_is_that_of_its_spread() -> None:
    rng = np.random.default_rng(0)
    off, claimed = [], []
    for _ in range(400):
        errors = rng.choice([0.002, 0.01], 6)
        rows = [measured(2 * np.exp(rng.normal(0, e)), e) for e in errors]
        found = joined(Source.TAGS, rows)
        off.append(np.log(found.metres_per_unit / 2))
        claimed.append(found.relative_error)
    assert np.std(np.divide(off, claimed)) == pytest.approx(1, abs=0.25)


def test_one_that_is_far_off_is_left_out_and_named() -> None:
    found = joined(Source.TAGS, [measured(2), measured(2.01), measured(3, what="tag 9")])
    assert found.metres_per_unit == pytest.approx(2.005, rel=1e-3)
    assert found.notes == ("tag 9 is 49.3% off the others and is left out",)
    assert [m.used for m in found.measurements] == [True, True, False]


def test_of_two_that_contradict_none_is_left_out_and_the_error_grows() -> None:
    found = joined(Source.DISTANCES, [measured(2, 0.002), measured(2.2, 0.002)])
    assert found.metres_per_unit == pytest.approx(2.1, rel=0.01)
    assert found.relative_error > 0.04
    assert "differ by up to 10.0%" in found.notes[0]


def test_distances_and_tags_go_before_gps_and_gps_before_depth() -> None:
    tags, distances = estimate(Source.TAGS, 2, 0.01), estimate(Source.DISTANCES, 2.02, 0.01)
    gps, depth = estimate(Source.GPS, 2.1, 0.001), estimate(Source.DEPTH, 2.4, 0.1)
    value, error, used = chosen([distances, tags, gps, depth])
    assert value == pytest.approx(2.01, rel=1e-4)
    assert error == pytest.approx(0.01 / 2**0.5, rel=0.01)
    assert used == (Source.DISTANCES, Source.TAGS)
    assert chosen([gps, depth])[2] == (Source.GPS,)
    assert chosen([depth])[2] == (Source.DEPTH,)


def test_what_contradicts_beyond_the_errors_is_said() -> None:
    tags, gps = estimate(Source.TAGS, 0.25, 0.003), estimate(Source.GPS, 0.31, 0.015)
    depth = estimate(Source.DEPTH, 0.28, 0.1)
    said = list(contradictions([tags, gps, depth]))
    assert said == [
        "tags say 0.25 m a unit (± 0.3%), GPS says 0.31 m a unit (± 1.5%): 24.0% apart, more than"
        " their errors explain"
    ]
