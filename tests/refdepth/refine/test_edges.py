"""Sharpened depth edges against the exact step that was smeared, and against a plain weighted
median."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.refine.edges import (
    LEAST_GAP,
    LIKENESS,
    NEXT_TO_A_GAP,
    SOLID,
    SPREAD,
    gaps,
    sharpen_edges,
)

REACH = 0.008
NEAR, FAR = 2.0, 3.5


def step(scale: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A slanted edge between two surfaces, and a photo in which they have different colours."""
    height, width = 60 * scale, 256 * scale
    y, x = np.mgrid[:height, :width] / scale
    near = x < 128 + 0.3 * y
    depth = np.where(near, NEAR, FAR).astype(np.float32)
    color = np.where(near[..., None], [0.8, 0.5, 0.2], [0.3, 0.4, 0.6]).astype(np.float32)
    return depth, color


def smear(depth: NDArray[np.float32], width_px: float) -> NDArray[np.float32]:
    """As networks do, in inverse depth."""
    return (1 / ndimage.gaussian_filter(1 / depth, width_px)).astype(np.float32)


@pytest.mark.parametrize("width_px", [0.5, 1.0, 1.5])
def test_a_smeared_step_becomes_the_step_it_was(width_px: float):
    depth, image = step()
    smeared = smear(depth, width_px)
    sharp = sharpen_edges(smeared, image, REACH)
    before, after = (abs(found / depth - 1) for found in (smeared, sharp))
    wrong = before > 0.1
    assert wrong.mean() > 0.001
    assert (after > 0.1).sum() < 0.1 * wrong.sum()
    assert after.mean() < 0.5 * before.mean()


def test_the_photo_says_where_the_edge_is():
    depth, image = step()
    shifted = np.roll(image, 1, axis=1)  # the photo's edge lies one pixel further right
    plain = np.full_like(image, 0.5)
    inside = (slice(10, 50), slice(100, 180))
    near = [
        (sharpen_edges(smear(depth, 1.0), photo, REACH) < 2.5)[inside].sum()
        for photo in (image, shifted, plain)
    ]
    rows = 40
    assert near[1] - near[0] >= 0.7 * rows  # nearly one pixel in each row
    assert abs(near[2] - near[0]) <= 0.5 * rows  # without a photo's help, the middle of the smear


def test_the_same_picture_twice_as_large_is_treated_alike():
    errors = []
    for scale in (1, 2):
        depth, image = step(scale)
        sharp = sharpen_edges(smear(depth, 1.0 * scale), image, REACH)
        errors.append(abs(sharp / depth - 1).mean())
    assert errors[1] == pytest.approx(errors[0], rel=0.5)


def test_what_is_not_smeared_stays_bit_for_bit():
    depth, image = step()
    rng = np.random.default_rng(0)
    image = image + rng.uniform(-0.2, 0.2, image.shape).astype(np.float32)
    y, x = np.mgrid[:60, :256]
    slope = (2 * np.exp(0.004 * x + 0.002 * y)).astype(np.float32)
    rod = np.full((60, 256), FAR, np.float32)
    rod[:, 100] = NEAR
    rod[30, :] = NEAR
    nothing = np.zeros((60, 256), np.float32)
    for clean in (depth, slope, rod, nothing):
        np.testing.assert_array_equal(sharpen_edges(clean, image, REACH), clean)


def test_unknown_depth_stays_unknown_and_says_nothing():
    depth, image = step()
    smeared = smear(depth, 1.0)
    rng = np.random.default_rng(1)
    unknown = rng.uniform(size=depth.shape) < 0.3
    smeared[unknown] = 0
    sharp = sharpen_edges(smeared, image, REACH)
    np.testing.assert_array_equal(sharp == 0, unknown)
    assert np.isfinite(sharp).all()
    assert set(np.unique(sharp.astype(np.float64))) <= set(
        np.unique(np.r_[smeared.ravel(), np.exp(np.log(smeared[~unknown]))].astype(np.float64))
    )


def test_equals_a_weighted_median_of_the_definition():
    rng = np.random.default_rng(2)
    depth = np.exp(rng.normal(0, 0.1, (24, 256))).astype(np.float32)
    depth[5, 7:60] = 0
    image = rng.uniform(size=(24, 256, 3)).astype(np.float32)
    found = sharpen_edges(depth, image, REACH)
    log_depth = np.log(np.where(depth > 0, depth, np.nan)).astype(np.float32)
    gap = np.empty_like(log_depth)
    gaps(log_depth, 1, gap)
    padded = np.pad(gap, 1)
    nine = [padded[j : j + 24, i : i + 256] for j in (0, 1, 2) for i in (0, 1, 2)]
    around = np.max(nine, axis=0)
    doubt = np.maximum(gap, NEXT_TO_A_GAP * around)
    offsets = [-2, -1, 0, 1, 2]  # 0.008 of 256 pixels
    checked = 0
    for y, x in zip(*np.nonzero((around > LEAST_GAP) & (depth > 0)), strict=True):
        taps = [
            (y + dy, x + dx, dy, dx)
            for dy in offsets
            for dx in offsets
            if 0 <= y + dy < 24 and 0 <= x + dx < 256 and depth[y + dy, x + dx] > 0
        ]
        values = np.array([log_depth[v, u] for v, u, _, _ in taps], np.float64)
        weights = np.array(
            [
                np.exp(
                    -((doubt[v, u] / SOLID) ** 2)
                    - abs(image[v, u].astype(float) - image[y, x]).sum() / LIKENESS
                    - 0.5 * (dy**2 + dx**2) / (SPREAD * REACH * 256) ** 2
                )
                for v, u, dy, dx in taps
            ]
        )
        order = np.argsort(values, kind="stable")
        sums = np.cumsum(weights[order])
        if abs(sums / sums[-1] - 0.5).min() < 1e-4:
            continue  # rounding decides
        expected = np.exp(values[order][np.searchsorted(sums, 0.5 * sums[-1])])
        assert found[y, x] == pytest.approx(expected, rel=1e-5)
        checked += 1
    assert checked > 500


def test_a_gap_is_the_nearer_of_two_opposite_neighbours():
    row = np.array([[0.0, 0.1, 0.5, 0.6, 0.4, np.nan, 0.9, 1.0]], np.float32)
    gap = np.empty_like(row)
    gaps(row, 1, gap)
    # Between 0 and 0.5: 0.1 and 0.4 away. Between 0.1 and 0.6. A top. Borders and unknown: none.
    np.testing.assert_allclose(gap, [[0, 0.1, 0.1, 0, 0, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(_gaps(row.T.copy()), gap.T, atol=1e-6)
    diagonal = np.array([[0, 9, 9], [9, 0.3, 9], [9, 9, 0.5]], np.float32)
    assert _gaps(diagonal)[1, 1] == pytest.approx(0.2)


def _gaps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(values)
    gaps(values, 1, out)
    return out


def test_small_pictures_stay_as_they_are():
    depth = np.array([[1, 2, 3]], np.float32)
    np.testing.assert_array_equal(
        sharpen_edges(depth, np.zeros((1, 3, 3), np.float32), 0.01), depth
    )


def test_strips_of_a_photo_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    depth, image = step(scale=2)
    rough = (smear(depth, 2.0) * (1 + 0.05 * rng.random(depth.shape))).astype(np.float32)
    rough[rng.random(depth.shape) < 0.02] = 0
    levels = np.round(255 * image).astype(np.uint8)
    whole = sharpen_edges(rough, levels, REACH)
    assert (whole != rough).mean() > 0.005
    monkeypatch.setattr("refdepth.geometry.grid.ROWS_AT_A_TIME", 7)
    monkeypatch.setattr("refdepth.refine.edges.ROWS", 7)
    np.testing.assert_array_equal(sharpen_edges(rough, levels, REACH), whole)
    np.testing.assert_array_equal(sharpen_edges(rough, levels / np.float32(255), REACH), whole)


@pytest.mark.parametrize("rows", [7, 60, 512])
def test_an_array_may_become_its_own_result(rows: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    depth, image = step(scale=2)
    rough = (smear(depth, 2.0) * (1 + 0.05 * rng.random(depth.shape))).astype(np.float32)
    apart = sharpen_edges(rough, image, REACH)
    assert (apart != rough).mean() > 0.005
    monkeypatch.setattr("refdepth.refine.edges.ROWS", rows)
    assert sharpen_edges(rough, image, REACH, in_place=True) is rough
    np.testing.assert_array_equal(rough, apart)
