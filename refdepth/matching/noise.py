"""How much smoother than usual a correction should be, from the noise in what it is made from."""

from __future__ import annotations

from refdepth.arrays import Array, namespace
from refdepth.geometry.grid import block_means

BLOCK = 12
"""Side of a block in pixels: wider than a window, whose pixels err together."""
SURE = 0.5
"""Weight of opinions that count."""
LEAST_SURE = 0.3
"""Share of a block that must be sure."""
LEAST_BLOCKS = 5
"""Fewer such blocks say nothing."""
FARTHEST = 0.05
"""Further off an opinion counts no more: it is an outlier, not noise."""
MOST_STIFFER = 3.5
"""How many times as stiff a correction becomes at most."""


def stiffer(values: Array, weights: Array, x: Array, usual: float) -> Array:
    """By what smoothness is to be multiplied (no dimension, 1 to `MOST_STIFFER`): by the square of
    the noise over the `usual` one.

    Noise is how far the sure among the opinions `values`, with their `weights`, lie from the map
    `x` (H, W each) together: the root mean square of the means of their differences over blocks.
    What a single pixel or window errs the next one does not, and smoothing removes it anyhow; what
    a block does, on photos that are blurred, noisy or not quite where they are said to be, looks
    like depth.
    """
    xp = namespace(x)
    sure = xp.astype(weights > SURE, x.dtype)
    off = xp.clip(xp.astype(values, x.dtype) - x, -FARTHEST, FARTHEST)
    share = block_means(sure, BLOCK)
    counted = share > LEAST_SURE
    mean = xp.where(counted, block_means(sure * off, BLOCK) / xp.where(counted, share, 1.0), 0.0)
    blocks = xp.sum(xp.astype(counted, x.dtype))
    square = xp.sum(mean**2) / xp.clip(blocks, 1, None)
    square = xp.where(blocks < LEAST_BLOCKS, 0.0, square)
    return xp.clip(square / usual**2, 1.0, MOST_STIFFER)
