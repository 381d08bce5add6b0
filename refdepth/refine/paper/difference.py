"""How far a rendered picture is from a real one: one number, and its gradient to the rendered
picture, each in one pass over memory where a CPU does it."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

LEAST_WEIGHT = 1e-6
"""Weights that sum to less count as this much: a picture without weight has no difference."""


def mean_difference(
    rendered: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    *,
    squared: bool = False,
    limit: float = float("inf"),
) -> torch.Tensor:
    """Mean over pixels, weighted with `weight` (B, H, W), of the absolute (or `squared`)
    difference of `rendered` and `target` (B, H, W, C), itself the mean over channels. A pixel's
    difference counts as `limit` at most, and pulls no more beyond."""
    compiled = rendered.device.type == "cpu" and not (target.requires_grad or weight.requires_grad)
    if compiled and rendered.dtype == target.dtype and rendered.numel():
        return _MeanDifference.apply(rendered, target, weight, squared, limit)
    difference = rendered - target
    difference = difference.square() if squared else difference.abs()
    weight = weight.to(rendered.dtype)
    total = (difference.mean(dim=-1).clamp(max=limit) * weight).sum()
    return total / weight.sum().clamp_min(LEAST_WEIGHT)


class _MeanDifference(torch.autograd.Function):
    """`mean_difference` on a CPU, with a gradient to `rendered` alone."""

    @staticmethod
    def forward(
        ctx: Any,
        rendered: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        squared: bool,
        limit: float,
    ) -> torch.Tensor:
        from refdepth.refine.paper.difference_kernels import sum_rows

        lanes = (0,) * rendered.shape[-1]
        sums = torch.empty((rendered.shape[0] * rendered.shape[1], 2), dtype=torch.float64)
        pictures = [_rows(picture) for picture in (rendered, target, weight[..., None])]
        sum_rows(*pictures, lanes, squared, limit, sums.numpy())
        total, share = sums.numpy().sum(axis=0).tolist()
        share = max(share, LEAST_WEIGHT)
        ctx.save_for_backward(rendered, target, weight)
        ctx.options = lanes, squared, limit, share
        return rendered.new_tensor(total / share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from refdepth.refine.paper.difference_kernels import pull_rows

        rendered, target, weight = ctx.saved_tensors
        lanes, squared, limit, share = ctx.options
        out = torch.empty(rendered.shape, dtype=rendered.dtype)
        pictures = [_rows(picture) for picture in (rendered, target, weight[..., None])]
        pull_rows(*pictures, lanes, squared, limit, float(grad) / share, _rows(out))
        return out, None, None, None, None


def _rows(picture: torch.Tensor) -> Any:
    """Picture (B, H, W, C) as an array (B * H, W * C)."""
    rows = picture.shape[0] * picture.shape[1]
    return picture.detach().contiguous().numpy().reshape(rows, -1)
