"""Keeping a refinement only where a neighbour left out of it says that it helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refdepth.arrays import Array, at_least, namespace
from refdepth.geometry.grid import WorkGrid, by_strips, log_ratio
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import PLAIN_TEXTURE
from refdepth.matching.cost_kernels import MISSING_COST
from refdepth.matching.propagation import propagate
from refdepth.refine.edges import sharpen_view
from refdepth.refine.problem import ViewProblem
from refdepth.refine.transfer import Transferred, agreement, transfer
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage

SMOOTHNESS = 1000.0
"""How far evidence is pooled over a surface: weight of a smooth share against a textured pixel."""
WHOLE_VIEW = 0.01
"""Weight of the view's typical evidence against that of a textured pixel."""
GEOMETRY_WEIGHT = 0.3
"""Weight of agreement with the neighbour's depth against correlation."""
PRESUMED = 0.01
"""Weight, against that of a textured pixel, of the presumption that a refinement helps: it decides
where nothing can be judged."""
TOLERANCE = 0.02
"""Log-depth distance that counts as half agreement."""
CLEAR_GAIN = 0.01
"""Pooled gain from which the refinement is taken over in full."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What the neighbour left out says."""

    share: Array
    """How much of the correction is taken over (H, W, working grid), in [0, 1]."""
    accepted: Array
    """Mean share over known depth that the mask leaves."""
    score_before: Array
    """Mean correlation of the scaled prior with the neighbour, over texture that both see."""
    score_after: Array
    """The same for the refined depth."""

    @property
    def in_full(self) -> Array:
        """Whether all is taken over, of no dimension."""
        return namespace(self.share).min(self.share) >= 1

    @property
    def numbers(self) -> tuple[Array, Array, Array]:
        """What a `summary` is made of."""
        return self.accepted, self.score_before, self.score_after


def summary(accepted: float, before: float, after: float) -> dict[str, Any]:
    """What a view's record says of a verdict's `numbers`. `kept_prior`: most of the view stays as
    it was."""
    return {
        "kept_prior": accepted < 0.5,
        "accepted_share": round(accepted, 4),
        "held_out_before": round(before, 4),
        "held_out_after": round(after, 4),
    }


def accept(held_out: ViewProblem, transferred: Transferred, before: Array, after: Array) -> Verdict:
    """Compares depth `before` and `after` refinement (H, W, working grid) with the one source of
    `held_out` and its own depth map, `transferred`.

    Evidence is the gain in correlation, weighted with texture beyond that of a plain window, where
    correlation is noise, and the gain in agreement with the neighbour's depth, weighted with its
    confidence, pooled over surfaces; surfaces that the neighbour does not see, or where it has
    little to say, follow the view as a whole; where that says next to nothing either, the
    refinement is presumed to help. Where the pooled gain is not positive, nothing is taken over.
    """
    costs = [held_out.comparison.cost(depth) for depth in (before, after)]
    xp = namespace(before)
    seen = (costs[0] != MISSING_COST) & (costs[1] != MISSING_COST)
    weight = xp.where(seen & held_out.ref.usable, held_out.windows.texture, 0.0)
    telling = xp.clip((weight - PLAIN_TEXTURE) / (1 - PLAIN_TEXTURE), 0, 1)
    gain = xp.where(seen, costs[0] - costs[1], 0.0)
    closer = agreement(transferred, after, TOLERANCE) - agreement(transferred, before, TOLERANCE)
    geometry = GEOMETRY_WEIGHT * at_least(
        transferred.confidence[0], held_out.settings.consistency.least_confidence
    )
    geometry = xp.where((transferred.depth[0] > 0) & held_out.ref.usable, geometry, 0.0)
    presumed = xp.where(held_out.ref.usable, PRESUMED * xp.ones_like(weight), 0.0)
    evidence = xp.stack([gain, closer, CLEAR_GAIN * xp.ones_like(gain)])
    weights = xp.stack([telling, geometry, presumed])
    typical = xp.sum(weights * evidence) / xp.clip(xp.sum(weights), 1e-9, None)
    pooled = typical + propagate(
        evidence - typical,
        weights,
        *held_out.links(after),
        smoothness=SMOOTHNESS,
        outlier=1.0,
        anchor=WHOLE_VIEW,
        rounds=1,
    )
    share = xp.clip(pooled / CLEAR_GAIN, 0, 1)
    total = xp.clip(xp.sum(weight), 1e-9, None)
    judged = (before > 0) & held_out.ref.usable
    return Verdict(
        share=share,
        accepted=xp.sum(xp.where(judged, share, 0.0)) / xp.clip(xp.sum(judged), 1, None),
        score_before=1 - xp.sum(weight * costs[0]) / total,
        score_after=1 - xp.sum(weight * costs[1]) / total,
    )


def judged(
    problem: ViewProblem,
    judging: WorkingView,
    judging_depth: DepthMap,
    scaled: Array,
    start: Array,
    sharp: Array,
) -> tuple[Array, Verdict]:
    """What the source left out says of refined depth, `sharp`, beside what it is compared with:
    the `scaled` prior or, where that is far off and not seen to be the better, what the first round
    made of it, `start` (photo's grid each)."""
    view, shrink = problem.ref, problem.ref.grid.shrink_depth
    held_out = ViewProblem(view, [judging], problem.sparse, problem.settings, problem.windows)
    seen = transfer(view, [judging], [judging_depth])
    before = scaled
    if start is not scaled:
        share = view.grid.grow(accept(held_out, seen, shrink(start), shrink(scaled)).share)
        before = taken_over(start, scaled, share)
    return before, accept(held_out, seen, shrink(before), shrink(sharp))


def taken_over(scaled: Array, depth: Array, share: Array, *, out: Array | None = None) -> Array:
    """`scaled` moved towards `depth` by a `share` of their log ratio (H, W each); `out` as in
    `by_strips`.

    For depth before its edges are sharpened: between two sides of an edge that is taken over in
    part there is again a smear, which only sharpening afterwards makes a step.
    """
    exp = namespace(scaled).exp
    return by_strips(lambda a, b, c: a * exp(log_ratio(b, a) * c), scaled, depth, share, out=out)


def taken_over_in_part(
    before: Array,
    depth: Array,
    share: Array,
    grid: WorkGrid,
    photo: PosedImage | None,
    edge_reach: float,
) -> Array:
    """`taken_over`, with sharp edges, where a `share` (working grid) of `depth` is; else `before`
    (photo's grid, as `depth`)."""
    xp, grown = namespace(share), grid.grow(share)
    part = grown > 0
    # A large photo's maps are large: one after the other takes the place of the share's.
    mine = None if grown is share else grown
    mixed = taken_over(before, depth, grown, out=mine)
    mixed = sharpen_view(mixed, photo, edge_reach, in_place=True)
    return by_strips(xp.where, part, mixed, before, out=mixed)
