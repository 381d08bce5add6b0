"""Discrete search: the depth along each ray that looks most alike in the sources (ZNCC, SGM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.matching.aggregation import aggregate, pick_minimum
from refdepth.matching.cost import Comparison
from refdepth.matching.settings import MatchSettings

Map = NDArray[np.float32]
WEAKEST_VOTE = 0.15
"""Share of its cost that a window without texture keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What a search found at each pixel of the working grid (H, W)."""

    step: Map
    """Position in the list of hypotheses, fractional."""
    zncc: Map
    """Correlation of the chosen hypothesis, mean of the best sources."""
    texture: Map
    """How much the window has to say, in [0, 1]; 0 where the reference is masked."""


def search(
    comparison: Comparison,
    depth: Map,
    factors: Map,
    settings: MatchSettings,
    *,
    extra: Map | None = None,
) -> Match:
    """Compares the hypotheses depth * factors[d] at every pixel of `depth` (H, W, working grid).

    Costs are 1 - ZNCC over the best sources, weighted with texture, plus `extra` ((D,) or
    (H, W, D)), aggregated along scan lines; image and depth edges free neighbours.
    """
    usable, texture = comparison.view.usable, comparison.windows.texture
    volume = comparison.volume(depth, factors, settings.best_sources)
    vote = np.where(usable, WEAKEST_VOTE + (1 - WEAKEST_VOTE) * texture, 0)
    weighted = volume * vote.astype(np.float32)[..., None]
    if extra is not None:
        weighted += extra
    link_x, link_y = edge_links(
        comparison.view.gray, depth, image_edge=settings.image_edge, depth_edge=settings.depth_edge
    )
    total = np.zeros_like(volume)
    aggregate(weighted, link_x, link_y, settings.small_penalty, settings.large_penalty, total)
    step = np.empty(depth.shape, np.float32)
    pick_minimum(total, step)
    nearest = np.clip(np.rint(step), 0, len(factors) - 1).astype(np.int64)
    cost = np.take_along_axis(volume, nearest[..., None], axis=2)[..., 0]
    return Match(step=step, zncc=1 - cost, texture=texture * usable)


def edge_links(
    gray: Map, depth: Map, *, image_edge: float, depth_edge: float, floor: float = 0.0
) -> tuple[Map, Map]:
    """How strongly pixels belong to their right (H, W-1) and lower (H-1, W) neighbour: 1 on even
    ground, towards `floor` across edges of the picture or of log depth."""
    log_depth = np.log(np.maximum(depth, np.float32(1e-30)))
    x, y = (
        np.exp(
            -image_edge * np.abs(np.diff(gray, axis=axis))
            - depth_edge * np.abs(np.diff(log_depth, axis=axis))
        ).astype(np.float32)
        + np.float32(floor)
        for axis in (1, 0)
    )
    return x, y
