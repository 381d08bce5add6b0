"""Smaller pictures and back: the discrete stages work on a coarser grid than the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import PinholeCamera


def reduction(shape: tuple[int, int], pixels: int, least: int) -> int:
    """The smallest whole factor, at least `least`, that reduces `shape` to at most `pixels`."""
    factor = least
    while shape[0] * shape[1] > pixels * factor**2:
        factor += 1
    return factor


def shrink(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Block means (ceil(H / factor), ceil(W / factor)[, C]); the last row and column are repeated
    where the size is no multiple, so that pixel (x, y) maps to (x, y) / factor exactly."""
    if factor == 1:
        return picture
    height, width = picture.shape[:2]
    pad = [(0, -height % factor), (0, -width % factor)] + [(0, 0)] * (picture.ndim - 2)
    padded = np.pad(picture, pad, mode="edge")
    # Several times as fast as a mean over two axes of blocks.
    total = np.zeros_like(padded[::factor, ::factor])
    for row in range(factor):
        for column in range(factor):
            total += padded[row::factor, column::factor]
    return total / np.float32(factor**2)


def shrink_depth(depth: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The known depth nearest each block's centre (ceil(H / factor), ceil(W / factor)); 0 where
    that is unknown. No mixing across depth edges."""
    if factor == 1:
        return depth
    height, width = depth.shape
    rows = np.minimum(np.arange(-(-height // factor)) * factor + factor // 2, height - 1)
    columns = np.minimum(np.arange(-(-width // factor)) * factor + factor // 2, width - 1)
    return np.ascontiguousarray(depth[np.ix_(rows, columns)])


def shrink_camera(camera: PinholeCamera, factor: int) -> PinholeCamera:
    """The camera of the picture made by `shrink`."""
    K = camera.K.copy()
    K[:2] /= factor
    return PinholeCamera(K=K, width=-(-camera.width // factor), height=-(-camera.height // factor))


def grow(values: NDArray[np.float32], factor: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear interpolation of a coarse map to `shape`; the inverse grid of `shrink`."""
    if factor == 1:
        return values
    y, fy = _taps(shape[0], factor, values.shape[0])
    x, fx = _taps(shape[1], factor, values.shape[1])
    rows = values[y] + fy[:, None] * (values[np.minimum(y + 1, len(values) - 1)] - values[y])
    right = rows[:, np.minimum(x + 1, values.shape[1] - 1)]
    return np.ascontiguousarray(rows[:, x] + fx * (right - rows[:, x]))


def _taps(size: int, factor: int, coarse: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Lower coarse index and fraction of each fine pixel centre."""
    position = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, coarse - 1)
    lower = position.astype(np.int64)
    return lower, (position - lower).astype(np.float32)
