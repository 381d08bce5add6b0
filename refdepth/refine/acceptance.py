"""Keeping a refinement only where a neighbour left out of it says that it helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.matching.cost_kernels import MISSING_COST
from refdepth.matching.propagation import propagate
from refdepth.refine.problem import ViewProblem
from refdepth.refine.transfer import Transferred, agreement

Map = NDArray[np.float32]
SMOOTHNESS = 1000.0
"""How far evidence is pooled over a surface: weight of a smooth share against a textured pixel."""
WHOLE_VIEW = 0.01
"""Weight of the view's typical evidence against that of a textured pixel."""
GEOMETRY_WEIGHT = 0.3
"""Weight of agreement with the neighbour's depth against correlation."""
TOLERANCE = 0.02
"""Log-depth distance that counts as half agreement."""
CLEAR_GAIN = 0.01
"""Pooled gain from which the refinement is taken over in full."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What the neighbour left out says."""

    share: Map
    """How much of the correction is taken over (H, W, working grid), in [0, 1]."""
    accepted: float
    """Mean share over known depth that the mask leaves."""
    score_before: float
    """Mean correlation of the scaled prior with the neighbour, over texture that both see."""
    score_after: float
    """The same for the refined depth."""

    def summary(self) -> dict[str, Any]:
        """For a view's record. `kept_prior`: most of the view stays as it was."""
        return {
            "kept_prior": self.accepted < 0.5,
            "accepted_share": round(self.accepted, 4),
            "held_out_before": round(self.score_before, 4),
            "held_out_after": round(self.score_after, 4),
        }


def accept(held_out: ViewProblem, transferred: Transferred, before: Map, after: Map) -> Verdict:
    """Compares depth `before` and `after` refinement (H, W, working grid) with the one source of
    `held_out` and its own depth map, `transferred`.

    Evidence is the gain in correlation, weighted with texture, and the gain in agreement with the
    neighbour's depth, weighted with its confidence, pooled over surfaces; surfaces that the
    neighbour does not see, or where it has little to say, follow the view as a whole. Where the
    pooled gain is not positive, nothing is taken over.
    """
    costs = [held_out.comparison.cost(depth) for depth in (before, after)]
    seen = (costs[0] != np.float32(MISSING_COST)) & (costs[1] != np.float32(MISSING_COST))
    weight = (seen * held_out.ref.usable * held_out.windows.texture).astype(np.float32)
    gain = np.where(seen, costs[0] - costs[1], 0).astype(np.float32)
    closer = agreement(transferred, after, TOLERANCE) - agreement(transferred, before, TOLERANCE)
    geometry = GEOMETRY_WEIGHT * np.maximum(
        transferred.confidence[0], np.float32(held_out.settings.consistency.least_confidence)
    )
    evidence = np.stack([gain, closer])
    geometry = geometry * (transferred.depth[0] > 0) * held_out.ref.usable
    weights = np.stack([weight, geometry.astype(np.float32)])
    typical = np.float32((weights * evidence).sum() / max(float(weights.sum()), 1e-9))
    pooled = typical + propagate(
        evidence - typical,
        weights,
        *held_out.links(after),
        smoothness=SMOOTHNESS,
        outlier=1.0,
        anchor=WHOLE_VIEW,
        rounds=1,
    )
    share = np.clip(pooled / np.float32(CLEAR_GAIN), 0, 1)
    total = max(float(weight.sum()), 1e-9)
    judged = (before > 0) & held_out.ref.usable
    return Verdict(
        share=share,
        accepted=float(share[judged].mean()) if judged.any() else 0.0,
        score_before=1 - float((weight * costs[0]).sum()) / total,
        score_after=1 - float((weight * costs[1]).sum()) / total,
    )
