"""The terms that the coarse and the fine stage minimise.

Pictures are (B, H, W, C), pixel weights (B, H, W), depth grids (R, C). All terms are means, so that
their weights do not depend on the picture's size, and relative to depth, so that they do not depend
on the scene's unit. Terms named "paper" follow arXiv 2410.03861.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from refdepth.refine.paper.difference import mean_difference

PAPER_SIDE_PX = 1280
"""Longer side of the paper's pictures, in whose pixels the gradients of its shape term are meant: a
slope is steeper per pixel the fewer pixels a picture has."""
EDGE_SHARPNESS = 10.0
"""How fast the weight of the shape term falls with |grad z| / z (paper)."""


def color_mse(rendered: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the visible pixels (paper)."""
    return mean_difference(rendered, target, weight, squared=True)


def robust_l1(
    rendered: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, *, limit: float
) -> torch.Tensor:
    """Mean absolute difference of the visible pixels; beyond `limit` a pixel pulls no more."""
    return mean_difference(rendered, target, weight, limit=limit)


def image_gradient_l1(
    rendered: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean absolute difference of horizontal plus that of vertical image gradients, between pixels
    that are both visible. Does not see a change of brightness."""
    difference = rendered - target
    total = difference.new_zeros(())
    for axis in (1, 2):
        size = difference.shape[axis] - 1
        pair = weight.narrow(axis, 0, size) * weight.narrow(axis, 1, size)
        step = difference.diff(dim=axis).abs().mean(dim=-1)
        total = total + _weighted_mean(step, pair)
    return total


def edge_band(depth: torch.Tensor, *, ratio: float, radius: int) -> torch.Tensor:
    """Pixels (B, H, W) bool within `radius` of a depth edge of `depth` (B, H, W; 0: nothing there):
    a step by more than `ratio`, or the outline of what is covered."""
    maps = depth[:, None]
    farthest = functional.max_pool2d(maps, 3, 1, 1)
    nearest = -functional.max_pool2d(-maps, 3, 1, 1)
    step = (farthest > ratio * nearest).to(depth.dtype)
    if radius > 1:
        step = functional.max_pool2d(step, 2 * radius - 1, 1, radius - 1)
    return step[:, 0] > 0


def shape_loss(
    depth: torch.Tensor, prior: torch.Tensor, valid: torch.Tensor, *, steps: float = 1.0
) -> torch.Tensor:
    """Poisson term: the gradients of `depth` match those of `prior`, both (R, C) (paper).

    The difference of the gradients (per `steps` grid steps, relative to the prior's depth) is
    smoothed with a 3x3 box, which lets single vertices move, then squared and weighted with
    exp(-10 |grad z| / z) of the prior, which frees depth edges. Only cells count whose corners are
    all in `valid` (R, C) bool.
    """
    slope, prior_slope = _cell_gradients(depth), _cell_gradients(prior)
    known = _cells(valid)
    scale = prior[:-1, :-1].clamp_min(torch.finfo(prior.dtype).tiny)
    difference = torch.where(known, (slope - prior_slope) / scale, 0)
    share = _box(known.to(depth.dtype)[None])
    smoothed = steps * _box(difference) / share.clamp_min(1e-6)
    weight = torch.where(known, 1 - _edge_strength(prior_slope, scale), 0)
    return (weight * smoothed.square().sum(dim=0)).sum() / known.sum().clamp_min(1)


def edge_map_loss(depth: torch.Tensor, prior: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Depth edges stay where the prior has them (paper): mean absolute difference of the maps
    1 - exp(-10 |grad z| / z) of `depth` and `prior` (R, C)."""
    known = _cells(valid)
    tiny = torch.finfo(prior.dtype).tiny
    maps = [_edge_strength(_cell_gradients(z), z[:-1, :-1].clamp_min(tiny)) for z in (depth, prior)]
    return torch.where(known, (maps[0] - maps[1]).abs(), 0).sum() / known.sum().clamp_min(1)


def point_loss(depth: torch.Tensor, measured: torch.Tensor, *, huber: float) -> torch.Tensor:
    """Huber loss of the relative depth error at SfM points, both (N,) (paper: `huber` 0.5)."""
    if not len(measured):
        return depth.new_zeros(())
    relative = (depth - measured) / measured
    return functional.huber_loss(relative, torch.zeros_like(relative), delta=huber)


def shift_loss(
    positions_px: torch.Tensor, shift_px: torch.Tensor, edge_distance_px: torch.Tensor, reach: float
) -> torch.Tensor:
    """Vertices (V, 2) within `reach` of a depth edge shift onto it (paper): their mean distance
    after the shift, in units of `reach`. `edge_distance_px` (H, W) is the distance of every pixel
    centre to the nearest edge."""
    before = _sample(edge_distance_px, positions_px)
    near = (before < reach).to(shift_px.dtype)
    after = _sample(edge_distance_px, positions_px + shift_px)
    return (near * after).sum() / (near.sum().clamp_min(1) * reach)


def normal_loss(points: torch.Tensor, normals: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cos between the surface through `points` (R, C, 3) and `normals` (R, C, 3), both
    in camera axes, normals pointing to the camera and 0 where unknown (paper)."""
    right = points[:-1, 1:] - points[:-1, :-1]
    down = points[1:, :-1] - points[:-1, :-1]
    found = functional.normalize(torch.linalg.cross(down, right), dim=-1)
    given = normals[:-1, :-1]
    known = _cells(valid) & (given.abs().sum(dim=-1) > 0)
    cosine = (found * functional.normalize(given, dim=-1)).sum(dim=-1)
    return torch.where(known, 1 - cosine, 0).sum() / known.sum().clamp_min(1)


def smoothness_loss(
    correction: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean over mesh edges (E, 2) of weight (E,) times the squared step of `correction` (V,)."""
    if not len(edges):
        return correction.new_zeros(())
    step = correction[edges[:, 0]] - correction[edges[:, 1]]
    return (weight * step.square()).mean()


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    weight = weight.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)


def _cell_gradients(depth: torch.Tensor) -> torch.Tensor:
    """Forward differences (2, R - 1, C - 1) along x and y."""
    corner = depth[:-1, :-1]
    return torch.stack([depth[:-1, 1:] - corner, depth[1:, :-1] - corner])


def _cells(valid: torch.Tensor) -> torch.Tensor:
    return valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1]


def _edge_strength(slope: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    # The floor keeps the gradient of the square root finite on flat ground.
    steepness = (slope.square().sum(dim=0) + 1e-12 * depth.square()).sqrt() / depth
    return 1 - torch.exp(-EDGE_SHARPNESS * steepness)


def _box(maps: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(maps[None], 3, 1, 1)[0]


def _sample(picture: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Bilinear values (N,) of `picture` (H, W) at pixels (N, 2)."""
    height, width = picture.shape
    size = torch.stack([xy.new_full((), width), xy.new_full((), height)])
    found = functional.grid_sample(
        picture[None, None],
        (2 * xy / size - 1)[None, None],
        align_corners=False,
        padding_mode="border",
    )
    return found[0, 0, 0]
