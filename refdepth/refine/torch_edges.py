"""The loops of `edges` in tensor operations, on any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.arrays import put_like
from refdepth.precision import widest_float

Tensor = torch.Tensor

CHUNK_BYTES = 128 * 2**20
"""Memory for the surroundings of the pixels that are looked at together."""


def gaps(log_depth: Tensor, reach: int) -> Tensor:
    """How far each pixel's value (H, W; NaN unknown) is from both of two opposite neighbours,
    `reach` pixels away, that it lies between: `edges.gaps`."""
    height, width = log_depth.shape
    out = torch.zeros_like(log_depth)
    for dy, dx in ((0, reach), (reach, 0), (reach, reach), (reach, -reach)):
        side = abs(dx)
        if 2 * dy >= height or 2 * side >= width:
            continue
        size = height - 2 * dy, width - 2 * side
        here = _window(log_depth, dy, side, size)
        ahead = _window(log_depth, 2 * dy, side + dx, size) - here
        behind = here - _window(log_depth, 0, side - dx, size)
        between = ahead * behind > 0  # False where one is unknown
        gap = torch.where(between, torch.minimum(ahead.abs(), behind.abs()), 0)
        inner = _window(out, dy, side, size)
        inner.copy_(inner.maximum(gap))
    return out


def move_to_a_side(
    log_depth: Tensor,
    smeared: Tensor,
    solid: Tensor,
    image: Tensor,
    taps: NDArray[np.int64],
    likeness: float,
    nearness: float,
) -> Tensor:
    """`log_depth` (H, W; NaN unknown), where `smeared` the weighted median at the offsets `taps` x
    `taps`: `edges.move_to_a_side`. Waits for the device once, to learn how many pixels those are:
    in a picture they are few."""
    width = log_depth.shape[1]
    where = (smeared & ~log_depth.isnan()).flatten().nonzero()[:, 0]
    dy, dx = (part.ravel() for part in np.meshgrid(taps, taps, indexing="ij"))
    offsets = put_like(np.stack([dy, dx]), log_depth)[:, :, None]
    wide = widest_float(log_depth.device)
    falls = nearness * offsets.to(wide).square().sum(dim=0)
    colors = image.reshape(-1, image.shape[2])
    out = log_depth.flatten().clone()
    # Six numbers of eight bytes and the colours are alive at once.
    at_once = max(1, CHUNK_BYTES // (len(dy) * (48 + 12 * image.shape[2])))
    for some in where.split(at_once):
        y, x = some // width + offsets[0], some % width + offsets[1]
        there = (y >= 0) & (y < log_depth.shape[0]) & (x >= 0) & (x < width)
        near = torch.where(there, y * width + x, some)
        value = log_depth.flatten()[near]
        there &= ~value.isnan()
        difference = (colors[near] - colors[some]).abs().sum(dim=2, dtype=wide)
        weight = solid.flatten()[near] * torch.exp(-difference / likeness - falls)
        value, order = torch.where(there, value, torch.inf).sort(dim=0)
        weight = torch.where(there, weight, 0).gather(0, order)
        half = weight.cumsum(dim=0)
        place = (half < 0.5 * half[-1:]).sum(dim=0).minimum(there.sum(dim=0) - 1)
        out.index_copy_(0, some, value.gather(0, place[None])[0])
    return out.reshape(log_depth.shape)


def _window(values: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    return values[top : top + size[0], left : left + size[1]]
