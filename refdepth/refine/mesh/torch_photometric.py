"""The loops of `photometric` in tensor operations, on any device: nothing is read back."""

from __future__ import annotations

import torch

from refdepth.precision import widest_float
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric_kernels import (
    INSIDE,
    LEAST_SCALE,
    OUTLIER,
    SAME_SURFACE_PX,
    SAMPLED,
)
from refdepth.render.interface import RenderOutput

Tensor = torch.Tensor


def sums(
    near: RenderOutput,
    far: RenderOutput,
    level: Level,
    probe: Tensor,
    x: Tensor,
    y: Tensor,
    meshed: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`Photometry.sums`: curvature and gradient (V,), and the robust energy per pixel, of no
    dimension. `x` (C,), `y` (R,): where in the photo the columns and rows of vertices are; `meshed`
    (V,): vertices that a triangle has."""
    residual, energy, weight = _compare(near, far, level)
    scale = OUTLIER * _sampled_median(energy, weight).clamp_min(LEAST_SCALE)
    relative = energy / scale
    robust = weight / ((1 + relative).square() * scale)
    slope = (far.color - near.color)[..., :-1] / (2 * probe[:, None, None, None])
    values = torch.stack([slope.square().sum(dim=-1), (slope * residual).sum(dim=-1)])
    values = torch.where(robust > 0, robust * values, 0)
    place = torch.where(robust > 0, (near.place + far.place) / 2, 0)
    curvature, gradient = _gather(values, place, level.scale, x, y, meshed)
    cost = (weight * energy / (1 + relative)).sum() / weight.sum().clamp_min(1e-30)
    return curvature, gradient, cost


def _compare(near: RenderOutput, far: RenderOutput, level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (S, H, W, C) of every pixel, their energy and its weight (S, H, W), both 0 where
    either picture shows nothing, or each another surface."""
    apart = (far.place - near.place).abs().amax(dim=0)
    inside = (near.color[..., -1] > INSIDE) & (far.color[..., -1] > INSIDE)
    seen = inside & (apart < SAME_SURFACE_PX) & (level.weight > 0)
    residual = (far.color + near.color)[..., :-1] / 2 - level.images
    energy = torch.where(seen, residual.square().sum(dim=-1), 0)
    return residual, energy, torch.where(seen, level.weight, 0)


def _sampled_median(energy: Tensor, weight: Tensor) -> Tensor:
    """The lower median of every `SAMPLED`-th of the values (S, H, W) that have a weight, in their
    order; inf where none has."""
    known = weight.flatten() > 0
    rank = known.cumsum(dim=0) - 1
    most = -(-len(rank) // SAMPLED)
    place = torch.where(known & (rank % SAMPLED == 0), rank // SAMPLED, most)
    sample = energy.new_full((most + 1,), torch.inf)
    sample.scatter_(0, place, energy.flatten())
    ordered = sample[:-1].sort().values
    count = (rank[-1] + SAMPLED) // SAMPLED
    middle = ((count - 1) // 2).clamp_min(0)
    return ordered.gather(0, middle[None])[0]


def _gather(
    values: Tensor, place: Tensor, scale: int, x: Tensor, y: Tensor, meshed: Tensor
) -> Tensor:
    """Sums (2, V) at the vertices of what pixels say, `values` (2, S, H, W), at the places (2, S,
    H, W) that they show.

    Sums are of whole numbers, which come to the same in every order: 2^62 over the number of pixels
    stands for the largest value. Without float64 to make them of they are of plain numbers.
    """
    wide = widest_float(x.device)
    bits = 62 - values[0].numel().bit_length()
    unit = values.abs().amax().to(wide).clamp_min(1e-30) / 2.0**bits
    exact = wide == torch.float64
    sums = torch.zeros((2, len(meshed)), dtype=torch.int64 if exact else wide, device=x.device)
    for view in range(values.shape[1]):
        column, right = _cells(place[0, view], scale, x.to(wide))
        row, down = _cells(place[1, view], scale, y.to(wide))
        first = row * len(x) + column
        corners = [first, first + 1, first + len(x), first + len(x) + 1]
        shares = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
        shares = [share * meshed[at] for share, at in zip(shares, corners, strict=True)]
        total = shares[0] + shares[1] + shares[2] + shares[3]
        each = torch.where(total > 0, values[:, view].to(wide) / total, 0).flatten(1)
        for share, at in zip(shares, corners, strict=True):
            part = share.flatten() * each
            sums.index_add_(1, at.flatten(), (part / unit).round().long() if exact else part)
    return sums * unit if exact else sums


def _cells(place: Tensor, scale: int, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """The cell along one axis that holds each place, and where in it, from 0 to 1."""
    photo = (place.to(vertices.dtype) + 0.5) * scale
    cell = ((photo - vertices[0]) / (vertices[1] - vertices[0])).floor().long()
    cell = cell.clamp(0, len(vertices) - 2)
    before = vertices[cell]
    return cell, ((photo - before) / (vertices[cell + 1] - before)).clamp(0, 1)
