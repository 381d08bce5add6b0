"""The working grid: a photo's pixels in blocks of a whole factor.

The one place where pictures, depth maps and masks are made smaller or larger. A block stands for
its centre: pixel (x, y) of the photo lies at (x, y) / factor of the grid, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, is_tensor, namespace
from refdepth.geometry.steps import STEP_RATIO
from refdepth.types.camera import PinholeCamera

Map = NDArray[np.float32]
ROWS_AT_A_TIME = 256
"""Of a photo: what is computed on the way stays small beside the photo itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkGrid:
    """The working resolution of one view."""

    photo: PinholeCamera
    """The camera of the photo."""
    factor: int
    """Photo pixels per grid pixel, along either side."""

    @classmethod
    def for_photo(cls, photo: PinholeCamera, *, max_pixels: int, least_factor: int = 1) -> WorkGrid:
        """The finest grid of at most `max_pixels` whose factor is at least `least_factor`."""
        factor = least_factor
        while photo.height * photo.width > max_pixels * factor**2:
            factor += 1
        return cls(photo=photo, factor=factor)

    @cached_property
    def camera(self) -> PinholeCamera:
        """The camera of the grid; the last row and column may reach beyond the photo."""
        K = self.photo.K.copy()
        K[:2] /= self.factor
        return PinholeCamera(
            K=K,
            width=-(-self.photo.width // self.factor),
            height=-(-self.photo.height // self.factor),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Array shape of the grid: (height, width)."""
        return self.camera.shape

    def cells(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns (N,) of the grid pixels that hold photo pixels `xy` (N, 2)."""
        columns, rows = (np.asarray(xy) / self.factor).astype(np.int64).reshape(-1, 2).T
        return rows, columns

    def shrink(self, picture: Array) -> Array:
        """Block means (h, w[, C]) of a picture (H, W[, C]) in the photo's grid."""
        self._check(picture)
        return block_means(picture, self.factor)

    def shrink_mask(self, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Where all of a block may be used (h, w); without a `mask` (H, W) that is everywhere."""
        if mask is None:
            return np.ones(self.shape, bool)
        return self.shrink(mask.astype(np.float32)) > 0.999

    def shrink_depth(self, depth: Array) -> Array:
        """Depth (h, w) at the blocks' centres, of a depth map (H, W; 0 unknown).

        Inverse depth is linear on a plane, so planes are exact at every factor. Where the pixels
        around a centre lie on different surfaces, or some are unknown, the nearest of them counts:
        depth is never mixed across an edge.
        """
        self._check(depth)
        if self.factor == 1:
            return depth
        if is_tensor(depth):
            from refdepth.geometry import torch_grid

            return torch_grid.shrink_depth(depth, self.factor, self.shape)
        y, fy = _centre_taps(depth.shape[0], self.factor, self.shape[0])
        x, fx = _centre_taps(depth.shape[1], self.factor, self.shape[1])
        total = np.zeros(self.shape)
        least, most = np.full(self.shape, np.inf), np.zeros(self.shape)
        for row, row_weight in ((y, 1 - fy), (_next(y, depth.shape[0]), fy)):
            for column, column_weight in ((x, 1 - fx), (_next(x, depth.shape[1]), fx)):
                weight = row_weight[:, None] * column_weight
                value = _inverse(depth[np.ix_(row, column)])
                total += np.where(weight == 0, 0, weight * value)
                counts = weight != 0
                least = np.where(counts, np.minimum(least, value), least)
                most = np.where(counts, np.maximum(most, value), most)
        nearest = depth[
            np.ix_(
                np.clip(y + np.floor(fy + 0.5).astype(np.int64), 0, depth.shape[0] - 1),
                np.clip(x + np.floor(fx + 0.5).astype(np.int64), 0, depth.shape[1] - 1),
            )
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            one_surface = (most < STEP_RATIO * least) & (total > 0)
            one_surface &= (total < STEP_RATIO * most) & (STEP_RATIO * total > least)
            return np.where(one_surface, 1 / total, nearest).astype(np.float32)

    def sample(self, picture: Map) -> Map:
        """The pixel at or next to each block's centre (h, w[, C]): nothing is mixed."""
        self._check(picture)
        rows, columns = (
            np.minimum(np.arange(count) * self.factor + self.factor // 2, size - 1)
            for count, size in zip(self.shape, self.photo.shape, strict=True)
        )
        return np.ascontiguousarray(picture[np.ix_(rows, columns)])

    def repeat(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each value of a map (h, w) at all pixels (H, W) of its block."""
        wide = values.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        return wide[: self.photo.height, : self.photo.width]

    def grow(self, values: Array) -> Array:
        """Bilinear interpolation (H, W) of a map (h, w); its border values go on to the edge."""
        return grown(values, self.photo.shape, (self.factor, self.factor))

    def grow_depth(self, depth: Array) -> Array:
        """A depth map (h, w; all known) in the photo's grid (H, W): bilinear in inverse depth, so
        exact on planes, out to the photo's edge."""
        return depth_grown(depth, self.photo.shape, (self.factor, self.factor))

    def _check(self, picture: Array) -> None:
        shape = tuple(picture.shape)
        if shape[:2] != self.photo.shape:
            raise ValueError(f"expected the photo's grid {self.photo.shape}, not {shape}")


def grown(values: Array, shape: tuple[int, int], step: tuple[float, float]) -> Array:
    """Bilinear interpolation at every pixel of a picture of `shape` (H, W) of a map (h, w) that has
    a value for every `step` pixels of it, down and across; border values go on to the edge."""
    if step == (1, 1):
        return values
    if is_tensor(values):
        from refdepth.geometry import torch_grid

        return torch_grid.grown(values, shape, step)
    out = np.empty(shape, values.dtype)
    y, fy = _taps(shape[0], step[0], values.shape[0])
    x, fx = _taps(shape[1], step[1], values.shape[1])
    for rows in strips(shape[0]):
        out[rows] = _bilinear(values, y[rows], np.clip(fy[rows], 0, 1), x, np.clip(fx, 0, 1))
    return out


def depth_grown(depth: Array, shape: tuple[int, int], step: tuple[float, float]) -> Array:
    """The same of depth: bilinear in inverse depth, so exact on planes, out to the edge. NaN stays
    NaN, and spreads to the pixels between it and known ones."""
    if step == (1, 1):
        return depth
    if is_tensor(depth):
        from refdepth.geometry import torch_grid

        return torch_grid.depth_grown(depth, shape, step)
    out = np.empty(shape, np.float32)
    y, fy = _taps(shape[0], step[0], depth.shape[0])
    x, fx = _taps(shape[1], step[1], depth.shape[1])
    inverse = 1 / depth.astype(np.float64)
    for rows in strips(shape[0]):
        inside = _bilinear(inverse, y[rows], np.clip(fy[rows], 0, 1), x, np.clip(fx, 0, 1))
        beyond = _bilinear(inverse, y[rows], fy[rows], x, fx)
        # Beyond the outermost centres a plane goes on; a step there must not be drawn out.
        out[rows] = 1 / np.clip(beyond, inside / STEP_RATIO, inside * STEP_RATIO)
    return out


def strips(height: int, multiple_of: int = 1) -> Iterator[slice]:
    """Some rows of a picture at a time, whole multiples of a number but for the last."""
    rows = -(-ROWS_AT_A_TIME // multiple_of) * multiple_of
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def by_strips(function: Callable[..., Array], *maps: Array, out: Array | None = None) -> Array:
    """`function` of maps (H, W), float32 (H, W), some rows at a time: for what is computed pixel by
    pixel. Tensors are computed whole; an array goes into `out`, where given, which may be one of
    the `maps`."""
    if is_tensor(maps[0]):
        return function(*maps)
    out = np.empty(maps[0].shape, np.float32) if out is None else out
    for rows in strips(len(out)):
        out[rows] = function(*(values[rows] for values in maps))
    return out


def log_ratio(depth: Array, base: Array) -> Array:
    """log(depth / base), 0 where either is unknown."""
    xp = namespace(base)
    both = (depth > 0) & (base > 0)
    return xp.log(xp.where(both, depth / xp.where(both, base, 1.0), 1.0))


def block_means(picture: Array, factor: int) -> Array:
    """Means (ceil(H / factor), ceil(W / factor)[, C]) of blocks; the last row and column are
    repeated where the size is no multiple."""
    if factor == 1:
        return picture
    if is_tensor(picture):
        from refdepth.geometry import torch_grid

        return torch_grid.block_means(picture, factor)
    height, width = picture.shape[:2]
    pad = [(0, -height % factor), (0, -width % factor)] + [(0, 0)] * (picture.ndim - 2)
    padded = np.pad(picture, pad, mode="edge")
    # Several times as fast as a mean over two axes of blocks.
    total = np.zeros_like(padded[::factor, ::factor])
    for row in range(factor):
        for column in range(factor):
            total += padded[row::factor, column::factor]
    return total / np.float32(factor**2)


def _inverse(depth: Map) -> NDArray[np.float64]:
    """1 / depth, NaN where it is unknown."""
    with np.errstate(divide="ignore"):
        return np.where(depth > 0, 1 / depth.astype(np.float64), np.nan)


def _next(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.minimum(index + 1, size - 1)


def _centre_taps(
    size: int, factor: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each block the pixel before its centre and the fraction of the way to the next; above 1
    for a last block whose centre lies beyond the picture."""
    centre = (np.arange(count) + 0.5) * factor - 0.5
    before = np.clip(np.floor(centre).astype(np.int64), 0, max(size - 2, 0))
    return before, centre - before if size > 1 else np.zeros(count)


def _taps(size: int, factor: float, coarse: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lower coarse index and fraction of each fine pixel centre; outside [0, 1] at the borders."""
    position = (np.arange(size) + 0.5) / factor - 0.5
    lower = np.clip(np.floor(position).astype(np.int64), 0, max(coarse - 2, 0))
    return lower, position - lower


def _bilinear(
    values: NDArray[np.floating],
    y: NDArray[np.int64],
    fy: NDArray[np.float64],
    x: NDArray[np.int64],
    fx: NDArray[np.float64],
) -> NDArray[np.floating]:
    """Samples (len(y), len(x)) of a map at rows y + fy and columns x + fx."""
    fy, fx = fy.astype(values.dtype), fx.astype(values.dtype)
    lower = _next(y, values.shape[0])
    rows = values[y] + fy[:, None] * (values[lower] - values[y])
    steps = rows[:, _next(np.arange(values.shape[1]), values.shape[1])] - rows
    out = np.take(steps, x, axis=1)
    out *= fx
    out += np.take(rows, x, axis=1)
    return out
