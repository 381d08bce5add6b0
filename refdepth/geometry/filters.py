"""Extremes in square windows, of arrays and of tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def maximum_filter(values: Any, side: int) -> Any:
    """The largest of the `side` x `side` values (an odd number) around each of a map (H, W); at the
    border of those that there are."""
    if isinstance(values, np.ndarray):
        return ndimage.maximum_filter(values, side)
    from torch.nn import functional

    return functional.max_pool2d(values[None, None], side, 1, side // 2)[0, 0]


def minimum_filter(values: Any, side: int) -> Any:
    """The smallest of them."""
    if isinstance(values, np.ndarray):
        return ndimage.minimum_filter(values, side)
    return -maximum_filter(-values, side)
