"""The loops of `photometric` in tensor operations, on any device: nothing is read back."""

from __future__ import annotations

import torch

from refdepth.precision import OrderlessSums
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric_kernels import (
    INSIDE,
    LEAST_SCALE,
    OUTLIER,
    SAME_SURFACE_PX,
    SAMPLED,
)
from refdepth.refine.mesh.torch_mesh import TensorMesh
from refdepth.render.interface import RenderOutput

Tensor = torch.Tensor


class TensorPhotometry:
    """`photometric.Photometry` of a mesh of tensors."""

    def __init__(self, mesh: TensorMesh) -> None:
        self._vertices = mesh.x, mesh.y, mesh.meshed
        self.meshed = mesh.meshed

    def sums(
        self, near: RenderOutput, far: RenderOutput, level: Level, probe: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Curvature and gradient (V,), and the robust energy per pixel, of no dimension."""
        residual, energy, weight = _compare(near, far, level)
        scale = OUTLIER * _sampled_median(energy, weight).clamp_min(LEAST_SCALE)
        relative = energy / scale
        robust = weight / ((1 + relative).square() * scale)
        slope = (far.color - near.color)[..., :-1] / (2 * probe[:, None, None, None])
        values = torch.stack([slope.square().sum(dim=-1), (slope * residual).sum(dim=-1)])
        values = torch.where(robust > 0, robust * values, 0)
        place = torch.where(robust > 0, (near.place + far.place) / 2, 0)
        curvature, gradient = _gather(values, place, level.scale, *self._vertices)
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
    H, W) that they show."""
    sums = OrderlessSums((2, len(meshed)), values.abs().amax(), count=values[0].numel())
    wide = sums.dtype
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
            sums.add(at.flatten(), share.flatten() * each)
    return sums.total


def _cells(place: Tensor, scale: int, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """The cell along one axis that holds each place, and where in it, from 0 to 1."""
    photo = (place.to(vertices.dtype) + 0.5) * scale
    cell = ((photo - vertices[0]) / (vertices[1] - vertices[0])).floor().long()
    cell = cell.clamp(0, len(vertices) - 2)
    before = vertices[cell]
    return cell, ((photo - before) / (vertices[cell + 1] - before)).clamp(0, 1)
