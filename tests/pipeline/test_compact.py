"""Depth and confidence as artifacts hold them."""

from __future__ import annotations

import numpy as np

from refdepth.pipeline.compact import compact, rounded
from refdepth.pipeline.files import write_arrays
from refdepth.types.depth_map import DepthMap


def rough(shape: tuple[int, int]) -> DepthMap:
    """Depth over six decades, known in half of the picture."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.uniform(np.log(1e-3), np.log(1e3), shape)).astype(np.float32)
    confidence = rng.uniform(0, 1, shape).astype(np.float32)
    return DepthMap(depth=depth, confidence=confidence).within(rng.uniform(size=shape) > 0.5)


def test_depth_is_stored_to_a_ten_thousandth_and_unknown_stays_unknown():
    given = rough((200, 300))
    stored = DepthMap(**compact(given))
    np.testing.assert_array_equal(stored.valid, given.valid)
    np.testing.assert_allclose(stored.depth, given.depth, rtol=2.0**-14)
    np.testing.assert_allclose(stored.confidence, given.confidence, atol=0.5 / 255 + 1e-6)
    assert (stored.confidence <= 1).all()
    np.testing.assert_array_equal(compact(stored)["depth"], stored.depth)


def test_what_is_stored_takes_less_than_a_third_of_plain_floats(tmp_path):
    y, x = np.mgrid[0:300, 0:400]
    depth = (3 + np.sin(x / 70) * np.cos(y / 90)).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=1e-3, size=depth.shape)
    given = DepthMap(
        depth=(depth * (1 + noise)).astype(np.float32),
        confidence=(0.5 + 0.4 * np.sin(x / 30)).astype(np.float32),
    ).within(x + y < 500)
    write_arrays(tmp_path / "a.npz", compact(given), compressed=True)
    assert (tmp_path / "a.npz").stat().st_size < 2 / 3 * given.depth.nbytes


def test_signs_and_what_is_not_finite_are_kept():
    given = np.array([np.nan, np.inf, -np.inf, 0.0, -1.23456789, 1.99999994], np.float32)
    stored = rounded(given)
    np.testing.assert_allclose(stored, given, rtol=2.0**-14)
    np.testing.assert_array_equal(rounded(stored), stored)
