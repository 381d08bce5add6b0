"""Noise that several pixels share, against hand-worked values; tensors against arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.matching.noise import BLOCK, FARTHEST, MOST_STIFFER, stiffer
from refdepth.matching.propagation import propagate

USUAL = 0.004
SHAPE = (6 * BLOCK, 8 * BLOCK)
LEVEL = np.zeros(SHAPE)


def by_block(size: float, seed: int = 0) -> np.ndarray:
    """Blocks that are off by `size`, one way or the other."""
    signs = np.random.default_rng(seed).choice([-size, size], (6, 8))
    return np.kron(signs, np.ones((BLOCK, BLOCK))).astype(np.float32)


def sure(share: float = 1.0) -> np.ndarray:
    """Weights of which that share of each block's rows is high."""
    rows = np.arange(SHAPE[0]) % BLOCK < share * BLOCK
    return np.repeat(np.where(rows, 0.9, 0.2)[:, None], SHAPE[1], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "factor"), [(0.003, 1.0), (0.004, 1.0), (0.006, 2.25), (0.02, MOST_STIFFER)]
)
def test_grows_with_the_square_of_what_blocks_are_off(size: float, factor: float) -> None:
    assert stiffer(by_block(size), sure(), LEVEL, USUAL) == pytest.approx(factor, rel=1e-5)
    assert stiffer(by_block(size), sure(0.5), LEVEL, USUAL) == pytest.approx(factor, rel=1e-5)
    around = LEVEL + 0.3
    assert stiffer(by_block(size) + 0.3, sure(), around, USUAL) == pytest.approx(factor, rel=1e-3)


def test_what_each_pixel_is_off_by_itself_does_not_count() -> None:
    values = np.random.default_rng(0).normal(scale=0.02, size=SHAPE).astype(np.float32)
    assert stiffer(values, sure(), LEVEL, USUAL) == 1


def test_unsure_pixels_and_few_sure_ones_say_nothing() -> None:
    assert stiffer(by_block(0.02), sure(0.0), LEVEL, USUAL) == 1
    assert stiffer(by_block(0.02), sure(0.2), LEVEL, USUAL) == 1
    four = np.zeros(SHAPE, np.float32)
    four[:BLOCK, : 4 * BLOCK] = 0.9
    assert stiffer(by_block(0.02), four, LEVEL, USUAL) == 1


def test_outliers_count_as_far_as_noise_goes() -> None:
    """Of 48 blocks one is off by a lot: by what is believed at most, 0.05 / sqrt(48)."""
    values = np.zeros(SHAPE, np.float32)
    values[:BLOCK, :BLOCK] = 0.8
    expected = FARTHEST**2 / 48 / 0.006**2
    assert stiffer(values, sure(), LEVEL, 0.006) == pytest.approx(expected, rel=1e-5)


def test_tensors_agree() -> None:
    rng = np.random.default_rng(1)
    shape = (5 * BLOCK + 3, 7 * BLOCK + 5)
    values = rng.normal(scale=0.05, size=shape).astype(np.float32)
    weights = rng.random(shape).astype(np.float32)
    x = rng.normal(scale=0.01, size=shape)
    on = [torch.from_numpy(part) for part in (values, weights, x)]
    assert float(stiffer(*on, 0.002)) == pytest.approx(stiffer(values, weights, x, 0.002), rel=1e-6)


def test_a_correction_from_noisier_opinions_is_smoother() -> None:
    """Truth is flat; what blocks are off is noise, and less of it is left."""
    links = np.ones((SHAPE[0], SHAPE[1] - 1)), np.ones((SHAPE[0] - 1, SHAPE[1]))
    how = {"smoothness": 20.0, "outlier": 0.1, "anchor": 1e-3, "rounds": 2}
    for size, quieter in ((0.002, 1.0), (0.02, 0.8)):
        given = by_block(size)[None], sure()[None], *links
        plain = propagate(*given, **how)
        found = propagate(*given, **how, noise=USUAL)
        if quieter == 1:
            np.testing.assert_array_equal(found, plain)
        assert np.abs(found).mean() <= quieter * np.abs(plain).mean()
