"""Extremes in square windows, of arrays and of tensors alike."""

from __future__ import annotations

from scipy import ndimage

from refdepth.arrays import Array, is_tensor


def maximum_filter(values: Array, side: int) -> Array:
    """The largest of the `side` x `side` values (an odd number) around each of a map (H, W); at the
    border of those that there are."""
    if not is_tensor(values):
        return ndimage.maximum_filter(values, side)
    from torch.nn import functional

    return functional.max_pool2d(values[None, None], side, 1, side // 2)[0, 0]


def minimum_filter(values: Array, side: int) -> Array:
    """The smallest of them."""
    if not is_tensor(values):
        return ndimage.minimum_filter(values, side)
    return -maximum_filter(-values, side)
