"""What `grid` does with arrays, in tensor operations: the same values to rounding, on any device,
and nothing waits for it."""

from __future__ import annotations

import torch

from refdepth.geometry.grid import STEP_RATIO
from refdepth.precision import widest_float

Tensor = torch.Tensor


def shrink_depth(depth: Tensor, factor: int, shape: tuple[int, int]) -> Tensor:
    """`WorkGrid.shrink_depth`: depth of `shape` (h, w) at the centres of blocks of `factor` x
    `factor` pixels of `depth` (H, W; 0 unknown)."""
    if factor == 1:
        return depth
    y, fy = _centre_taps(depth.shape[0], factor, shape[0], depth)
    x, fx = _centre_taps(depth.shape[1], factor, shape[1], depth)
    total = torch.zeros(shape, dtype=depth.dtype, device=depth.device)
    least, most = torch.full_like(total, torch.inf), torch.zeros_like(total)
    for row, row_weight in ((y, 1 - fy), (_next(y, depth.shape[0]), fy)):
        for column, column_weight in ((x, 1 - fx), (_next(x, depth.shape[1]), fx)):
            weight = row_weight[:, None] * column_weight
            there = _at(depth, row, column)
            value = torch.where(there > 0, 1 / there, torch.nan)
            counts = weight != 0
            total += torch.where(counts, weight * value, 0)
            least = torch.where(counts, least.minimum(value), least)
            most = torch.where(counts, most.maximum(value), most)
    nearest = _at(depth, _nearest(y, fy, depth.shape[0]), _nearest(x, fx, depth.shape[1]))
    one_surface = (most < STEP_RATIO * least) & (total > 0)
    one_surface &= (total < STEP_RATIO * most) & (STEP_RATIO * total > least)
    return torch.where(one_surface, 1 / total, nearest)


def grown(values: Tensor, shape: tuple[int, int], step: tuple[float, float]) -> Tensor:
    """`grid.grown`: bilinear interpolation of `shape` (H, W) of a map (h, w) that has a value for
    every `step` pixels, down and across."""
    if step == (1, 1):
        return values
    y, fy = _taps(shape[0], step[0], values.shape[0], values)
    x, fx = _taps(shape[1], step[1], values.shape[1], values)
    return _bilinear(values, y, fy.clamp(0, 1), x, fx.clamp(0, 1))


def depth_grown(depth: Tensor, shape: tuple[int, int], step: tuple[float, float]) -> Tensor:
    """`grid.depth_grown`: the same of depth (h, w), bilinear in inverse depth out to the edge."""
    if step == (1, 1):
        return depth
    y, fy = _taps(shape[0], step[0], depth.shape[0], depth)
    x, fx = _taps(shape[1], step[1], depth.shape[1], depth)
    inverse = 1 / depth
    inside = _bilinear(inverse, y, fy.clamp(0, 1), x, fx.clamp(0, 1))
    beyond = _bilinear(inverse, y, fy, x, fx)
    return 1 / beyond.clamp(inside / STEP_RATIO, inside * STEP_RATIO)


def block_means(picture: Tensor, factor: int) -> Tensor:
    """`grid.block_means` of a picture (H, W[, C])."""
    if factor == 1:
        return picture
    height, width = picture.shape[:2]
    rows = factor * torch.arange(-(-height // factor), device=picture.device)
    columns = factor * torch.arange(-(-width // factor), device=picture.device)
    total = torch.zeros(
        (len(rows), len(columns), *picture.shape[2:]), dtype=picture.dtype, device=picture.device
    )
    for row in range(factor):
        part = picture.index_select(0, (rows + row).clamp(max=height - 1))
        for column in range(factor):
            total += part.index_select(1, (columns + column).clamp(max=width - 1))
    return total / factor**2


def _at(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return values.index_select(0, rows).index_select(1, columns)


def _next(index: Tensor, size: int) -> Tensor:
    return (index + 1).clamp(max=size - 1)


def _nearest(index: Tensor, fraction: Tensor, size: int) -> Tensor:
    return (index + (fraction + 0.5).floor().long()).clamp(0, size - 1)


def _centre_taps(size: int, factor: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each block the pixel before its centre and the fraction of the way to the next."""
    centre = (_count_up(count, like.device) + 0.5) * factor - 0.5
    before = centre.floor().clamp(0, max(size - 2, 0))
    fraction = centre - before if size > 1 else torch.zeros_like(centre)
    return before.long(), fraction.to(like.dtype)


def _taps(size: int, factor: float, coarse: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Lower coarse index and fraction of each fine pixel centre; outside [0, 1] at the borders."""
    position = (_count_up(size, like.device) + 0.5) / factor - 0.5
    lower = position.floor().clamp(0, max(coarse - 2, 0))
    return lower.long(), (position - lower).to(like.dtype)


def _count_up(count: int, device: torch.device) -> Tensor:
    """0, 1, 2 ... as precisely as the device can: positions in large pictures need many digits."""
    return torch.arange(count, dtype=widest_float(device), device=device)


def _bilinear(values: Tensor, y: Tensor, fy: Tensor, x: Tensor, fx: Tensor) -> Tensor:
    """Samples (len(y), len(x)) of a map at rows y + fy and columns x + fx."""
    upper = values.index_select(0, y)
    lower = values.index_select(0, _next(y, values.shape[0]))
    rows = upper + fy[:, None] * (lower - upper)
    left = rows.index_select(1, x)
    right = rows.index_select(1, _next(x, values.shape[1]))
    return left + fx * (right - left)
