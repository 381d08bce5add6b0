"""The loops of `transfer` in tensor operations: on any device, the same whatever the order in which
its threads come, and nothing waits for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from refdepth.refine.transfer import SAME_SURFACE

Tensor = torch.Tensor


def splat(
    depths: Tensor,
    confidences: Tensor,
    sizes: Sequence[tuple[int, int]],
    A: Tensor,
    b: Tensor,
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Depth and confidence (S, H, W) of `shape` (H, W) that sources' depth maps give the reference.
    Of several points that fall into a pixel the nearest surface counts, and of that the point
    closest to the pixel's centre: `transfer.splat`.

    `depths`, `confidences` (S, Hs, Ws) are padded to the largest source, `sizes` says each one's
    height and width. A (S, 3, 3), b (S, 3): reference pixel of source pixel (x, y) at z is
    A (x, y, 1) z + b, reckoned in their type.

    A surface reaches here from its nearest point in the pixel to `SAME_SURFACE` times as far; the
    loop takes points in turn, each against the one it holds, so that a surface steep enough to fall
    off by more inside a pixel may give another of its points.
    """
    seen_depth = depths.new_zeros((len(depths), *shape))
    seen_confidence = torch.zeros_like(seen_depth)
    for s, (height, width) in enumerate(sizes):
        source = depths[s, :height, :width]
        cell, w, away = _projected(source, A[s], b[s], shape)
        nowhere = shape[0] * shape[1]
        nearest = _least(w, cell, nowhere)
        away = torch.where(w < nearest * SAME_SURFACE, away, torch.inf)
        closest = _least(away, cell, nowhere)
        order = torch.arange(len(w), dtype=torch.int32, device=w.device)
        chosen = away.isfinite() & (away == closest)
        first = torch.full((nowhere + 1,), len(w), dtype=torch.int32, device=w.device)
        first.scatter_reduce_(0, cell, torch.where(chosen, order, len(w)), "amin")
        drawn = first[:-1].reshape(shape)
        index = drawn.clamp(max=len(w) - 1).long()
        known = drawn < len(w)
        confidence = confidences[s, :height, :width].reshape(-1)
        seen_depth[s] = torch.where(known, w[index], 0)
        seen_confidence[s] = torch.where(known, confidence[index], 0)
    return seen_depth, seen_confidence


def vote(values: Tensor, weights: Tensor, changes: Tensor, tolerance: float, gain: float) -> Tensor:
    """What the opinions `values` (S, H, W) cost the hypotheses `changes` (D,): (H, W, D), per
    opinion at most gain * weight, reached at a distance of `tolerance`."""
    cost = values.new_zeros((*values.shape[1:], len(changes)))
    for value, weight in zip(values, weights, strict=True):
        says = weight > 0
        distance = torch.where(says, value, 0)[..., None] - changes
        distance.mul_(1 / tolerance).square_().clamp_(max=1)  # in place: volumes are large
        cost += distance.mul_(torch.where(says, gain * weight, 0)[..., None])
    return cost


def _projected(
    depth: Tensor, A: Tensor, b: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of a source (N,): the cell of the reference it falls into, the number of cells
    for none; its depth there; its squared distance from the cell's centre."""
    height, width = shape
    y = torch.arange(depth.shape[0], dtype=A.dtype, device=A.device)[:, None] + 0.5
    x = torch.arange(depth.shape[1], dtype=A.dtype, device=A.device) + 0.5
    across, down, along = ((a[0] * x + a[1] * y + a[2]) * depth + b[i] for i, a in enumerate(A))
    ahead = (depth > 0) & (along > 0)
    along = torch.where(ahead, along, 1)
    u, v = across / along, down / along
    inside = ahead & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = torch.where(inside, u, 0), torch.where(inside, v, 0)
    column, row = u.floor(), v.floor()
    cell = torch.where(inside, row.long() * width + column.long(), height * width)
    away = (u - column - 0.5).square() + (v - row - 0.5).square()
    return cell.reshape(-1), along.to(depth.dtype).reshape(-1), away.to(depth.dtype).reshape(-1)


def _least(values: Tensor, cell: Tensor, nowhere: int) -> Tensor:
    """For each of the values (N,) the least in its cell."""
    least = torch.full((nowhere + 1,), torch.inf, dtype=values.dtype, device=values.device)
    return least.scatter_reduce_(0, cell, values, "amin")[cell]
