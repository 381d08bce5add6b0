"""Depth as pictures to look at. They are not data: colours are scaled, clipped and 8 bits deep."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN_RGB = (128, 128, 128)
"""Colour of pixels without a value."""
_LEVELS = 256


def depth_range(*depths: NDArray[np.float32]) -> tuple[float, float]:
    """(near, far) for pictures of these depth maps: their 2 % and 98 % quantiles, so that a few
    outliers do not take all the colours. (1, 2) where nothing is known."""
    known = np.concatenate([depth[np.isfinite(depth) & (depth > 0)] for depth in depths])
    if known.size == 0:
        return 1.0, 2.0
    near, far = (float(v) for v in np.quantile(known, [0.02, 0.98]))
    return near, max(far, near * 1.01)


def depth_picture(
    depth: NDArray[np.float32], near: float, far: float, *, colors: str = "turbo"
) -> NDArray[np.uint8]:
    """Colours (height, width, 3) even in inverse depth, warm near and cold far; grey where
    the depth is unknown."""
    known = np.isfinite(depth) & (depth > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(known, 1 / depth, np.nan)
    return value_picture(inverse, 1 / far, 1 / near, colors=colors)


def value_picture(
    values: ArrayLike, low: float, high: float, *, colors: str = "viridis"
) -> NDArray[np.uint8]:
    """Colours (height, width, 3) from `low` to `high`; grey where a value is not finite."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    share = (np.where(known, values, low) - low) / max(high - low, 1e-300)
    index = (share.clip(0, 1) * (_LEVELS - 1)).round().astype(np.uint8)
    picture = color_table(colors)[index]
    picture[~known] = UNKNOWN_RGB
    return picture


def ratio_picture(
    depth: NDArray[np.float32], reference: NDArray[np.float32], limit: float
) -> NDArray[np.uint8]:
    """How much farther (red) or nearer (blue) `depth` is than `reference`, in log ratio up to
    `limit`; grey where either is unknown."""
    known = (depth > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(known, np.log(depth / reference), np.nan)
    return value_picture(ratio, -limit, limit, colors="RdBu_r")


@cache
def color_table(name: str) -> NDArray[np.uint8]:
    """A colour map of matplotlib as RGB (256, 3)."""
    from matplotlib import colormaps

    table = colormaps[name](np.linspace(0, 1, _LEVELS))[:, :3]
    rgb = np.round(table * 255).astype(np.uint8)
    rgb.setflags(write=False)
    return rgb
