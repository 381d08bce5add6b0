"""Keeping a refinement only where a neighbour left out of it says that it helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.refine.matching_kernels import MISSING_COST
from refdepth.refine.propagation import propagate
from refdepth.refine.search import MatchInput, edge_links, matching_cost
from refdepth.refine.settings import AcceptanceSettings, PropagationSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Acceptance:
    """What the neighbour left out says, working grid (H, W)."""

    share: NDArray[np.float32]
    """How much of the correction is taken over, in [0, 1]."""
    score_before: float
    """Mean correlation of the scaled prior, over texture that both see."""
    score_after: float
    """The same for the refined depth."""


def accept(
    held_out: MatchInput,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    settings: AcceptanceSettings,
    propagation: PropagationSettings,
) -> Acceptance:
    """Compares depth `before` and `after` refinement (H, W) in the one source of `held_out`.

    Gains in correlation are pooled over surfaces, weighted with texture; where the pooled gain is
    not positive, nothing is taken over.
    """
    cost_before, cost_after = (matching_cost(held_out, depth) for depth in (before, after))
    seen = (cost_before != np.float32(MISSING_COST)) & (cost_after != np.float32(MISSING_COST))
    weight = (seen * held_out.usable * held_out.texture).astype(np.float32)
    gain = np.where(seen, cost_before - cost_after, 0).astype(np.float32)
    links = edge_links(
        held_out.gray,
        after,
        image_edge=propagation.image_edge,
        depth_edge=propagation.depth_edge,
        floor=1e-4,
    )
    pooled = propagate(
        gain[None],
        weight[None],
        *links,
        smoothness=settings.smoothness,
        outlier=1.0,
        anchor=1e-3,
        rounds=1,
    )
    total = max(float(weight.sum()), 1e-9)
    return Acceptance(
        share=np.clip(pooled / np.float32(settings.clear_gain), 0, 1),
        score_before=1 - float((weight * cost_before).sum()) / total,
        score_after=1 - float((weight * cost_after).sum()) / total,
    )
