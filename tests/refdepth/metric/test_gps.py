"""Cameras on Earth: scale, orientation and what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measured_room import EAST_NORTH_UP, ORIGIN, positions_of
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from refdepth.errors import InputError
from refdepth.metric.geodesy import enu_from_geodetic
from refdepth.metric.gps import align_gps

METRES = 3.7


def cameras(rng: np.random.Generator, extent: tuple[float, float, float], count: int = 30):
    """Camera centres in the room's metres, the same in SfM units, and the rotation between."""
    metric = {f"{i:02d}.jpg": rng.uniform(-0.5, 0.5, 3) * extent for i in range(count)}
    turn = Rotation.random(random_state=1).as_matrix()
    return metric, {name: turn @ (at / METRES) + [5, 6, 7] for name, at in metric.items()}, turn


def test_two_metres_of_noise_over_sixty_give_the_scale_within_two_percent() -> None:
    off, claimed, tilts = [], [], []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        metric, world, turn = cameras(rng, (60, 12, 60))
        found = align_gps(world, positions_of(metric, noise_m=2, seed=seed))
        off.append(found.estimate.metres_per_unit / METRES - 1)
        claimed.append(found.estimate.relative_error)
        assert found.rotation is not None
        up = found.rotation @ turn @ np.array([0, -1.0, 0])
        tilts.append(np.degrees(np.arccos(up[2])))
    assert np.mean(np.abs(off)) < 0.012
    assert np.quantile(np.abs(off), 0.9) < 0.025
    assert abs(np.mean(off)) < 0.006
    assert np.std(np.divide(off, claimed)) == pytest.approx(1, abs=0.4)
    assert np.median(tilts) < 2


def test_wild_positions_are_left_out_and_said() -> None:
    metric, world, turn = cameras(np.random.default_rng(5), (60, 12, 60))
    positions = positions_of(metric, noise_m=0.02)
    wild = positions_of({n: at + np.array([400, 0, 90]) for n, at in list(metric.items())[:4]})
    found = align_gps(world, {**positions, **wild})
    assert found.estimate.metres_per_unit == pytest.approx(METRES, rel=1e-3)
    assert found.estimate.notes == ("4 of 30 positions are far off and left out",)
    assert_allclose(found.rotation @ turn, EAST_NORTH_UP, atol=2e-3)
    name = "20.jpg"
    here = METRES * found.rotation @ (world[name] - found.center) + found.center_enu
    there = [
        positions[name].latitude_deg,
        positions[name].longitude_deg,
        positions[name].altitude_m,
    ]
    assert_allclose(here, enu_from_geodetic(there, found.origin), atol=0.15)
    assert abs(found.origin.latitude_deg - ORIGIN.latitude_deg) < 1e-3


def test_cameras_on_a_line_give_a_scale_and_no_up() -> None:
    metric, world, _ = cameras(np.random.default_rng(0), (200, 0.5, 0.5))
    found = align_gps(world, positions_of(metric, noise_m=1))
    assert found.estimate.metres_per_unit == pytest.approx(METRES, rel=0.02)
    assert found.rotation is None
    assert "too much on one line" in found.estimate.notes[0]


def test_positions_without_altitude_are_left_out_and_too_few_refused() -> None:
    metric, world, _ = cameras(np.random.default_rng(0), (60, 12, 60))
    positions = positions_of(metric)
    without = {n: replace(p, altitude_m=None) for n, p in positions.items()}
    found = align_gps(world, {**positions, **dict(list(without.items())[:10])})
    assert found.estimate.notes == ("10 photos without an altitude are left out",)
    with pytest.raises(InputError, match=r"GPS: 0 placed .* 30 more lack the altitude.*needed"):
        align_gps(world, without)


@pytest.mark.parametrize(
    ("extent", "noise_m", "words"),
    [((0, 0, 0), 0, "all photos are in one place"), ((2, 2, 2), 4, "too much for cameras that")],
)
def test_all_photos_in_one_place_say_nothing(
    extent: tuple[float, float, float], noise_m: float, words: str
) -> None:
    for seed in range(8):
        metric, world, _ = cameras(np.random.default_rng(seed), (2, 2, 2))
        said = {n: at * extent for n, at in metric.items()}
        with pytest.raises(InputError, match=f"{words}.*--distance or --tag-size"):
            align_gps(world, positions_of(said, noise_m=noise_m, seed=seed))
