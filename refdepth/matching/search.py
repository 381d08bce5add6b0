"""Discrete search: the depth along each ray that looks most alike in the sources (ZNCC, SGM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdepth.arrays import Array, at_least, is_tensor, namespace
from refdepth.geometry.grid import strips
from refdepth.matching.aggregation import aggregate, pick_minimum
from refdepth.matching.cost import Comparison
from refdepth.matching.settings import MatchSettings

WEAKEST_VOTE = 0.15
"""Share of its cost that a window without texture keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What a search found at each pixel of the working grid (H, W)."""

    step: Array
    """Position in the list of hypotheses, fractional."""
    zncc: Array
    """Correlation of the chosen hypothesis, mean of the best sources."""
    texture: Array
    """How much the window has to say, in [0, 1]; 0 where the reference is masked."""


def search(
    comparison: Comparison,
    depth: Array,
    factors: Array,
    settings: MatchSettings,
    *,
    extra: Array | None = None,
) -> Match:
    """Compares the hypotheses depth * factors[d] at every pixel of `depth` (H, W, working grid).

    Costs are 1 - ZNCC over the best sources, weighted with texture, plus `extra` ((D,), or
    (H, W, D), which is written over), aggregated along scan lines; image and depth edges free
    neighbours.
    """
    usable, texture = comparison.view.usable, comparison.windows.texture
    volume = comparison.volume(depth, factors, settings.best_sources)
    xp = namespace(volume)
    vote = xp.where(usable, WEAKEST_VOTE + (1 - WEAKEST_VOTE) * texture, 0)
    weighted = _weighted(volume, vote[..., None], extra)
    link_x, link_y = edge_links(
        comparison.view.gray, depth, image_edge=settings.image_edge, depth_edge=settings.depth_edge
    )
    step = _cheapest(weighted, link_x, link_y, settings)
    nearest = xp.astype(xp.clip(xp.round(step), 0, len(factors) - 1), xp.int64)
    cost = xp.take_along_axis(volume, nearest[..., None], axis=2)[..., 0]
    return Match(step=step, zncc=1 - cost, texture=texture * usable)


def _weighted(volume: Array, vote: Array, extra: Array | None) -> Array:
    """`volume` (H, W, D) times `vote` (H, W, 1), plus `extra`, in whose place it goes where that is
    as large."""
    if extra is None or is_tensor(volume) or extra.shape != volume.shape:
        weighted = volume * vote
        if extra is not None:
            weighted += extra
        return weighted
    for rows in strips(len(volume)):
        extra[rows] += volume[rows] * vote[rows]
    return extra


def _cheapest(volume: Array, link_x: Array, link_y: Array, settings: MatchSettings) -> Array:
    """The best hypothesis of each pixel (H, W) after semi-global aggregation, fractional."""
    penalties = settings.small_penalty, settings.large_penalty
    if is_tensor(volume):
        from refdepth.matching import torch_aggregation

        return torch_aggregation.pick_minimum(
            torch_aggregation.aggregate(volume, link_x, link_y, *penalties)
        )
    total = np.zeros_like(volume)
    aggregate(volume, link_x, link_y, *penalties, total)
    step = np.empty(volume.shape[:2], np.float32)
    pick_minimum(total, step)
    return step


def edge_links(
    gray: Array, depth: Array, *, image_edge: float, depth_edge: float, floor: float = 0.0
) -> tuple[Array, Array]:
    """How strongly pixels belong to their right (H, W-1) and lower (H-1, W) neighbour: 1 on even
    ground, towards `floor` across edges of the picture or of log depth."""
    xp = namespace(depth)
    log_depth = xp.log(at_least(depth, 1e-30))
    x, y = (
        xp.exp(
            -image_edge * xp.abs(xp.diff(gray, axis=axis))
            - depth_edge * xp.abs(xp.diff(log_depth, axis=axis))
        )
        + floor
        for axis in (1, 0)
    )
    return x, y
