"""The two rounds of a view's refinement, each a plain function of its inputs.

The first looks at photos alone; the second also at what the first found in the neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import grow, shrink_depth
from refdepth.refine.acceptance import accept
from refdepth.refine.confidence import view_confidence
from refdepth.refine.edges import sharpen_edges
from refdepth.refine.problem import ViewProblem, log_ratio
from refdepth.refine.settings import RefineSettings
from refdepth.refine.transfer import Transferred, opinions, transfer
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage, SparseDepth

if TYPE_CHECKING:
    from refdepth.refine.mesh.schedule import Checkpoint
    from refdepth.render import Renderer

Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedView:
    """A view after a round, in the grid of its photo (H, W)."""

    depth: Map
    """Depth along the optical axis; 0 where the scaled prior says nothing."""
    confidence: Map
    """In [0, 1]; 0 where the depth is unknown."""
    record: dict[str, Any]
    """What was done: sources, accepted share, scores, flags, seconds by part. JSON-able."""

    @property
    def depth_map(self) -> DepthMap:
        """Depth and confidence alone: what the neighbours' second round needs."""
        return DepthMap(depth=self.depth, confidence=self.confidence)


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstRound(RefinedView):
    """A view after the first round."""

    coarse: Map
    """Depth after the coarse stage."""


@dataclass
class _Clock:
    """Seconds by part."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self._since, 4)
        self._since = now


def split_held_out(n_sources: int, settings: RefineSettings) -> tuple[list[int], int | None]:
    """Indices of the sources (best first) that are used, and of the one left out as judge: one of
    middling quality, so that the best still help and the judge still sees the same surfaces."""
    used = list(range(n_sources))
    if not settings.held_out or n_sources < 2:
        return used, None
    judge = n_sources // 2
    used.remove(judge)
    return used, judge


def first_round(
    ref: PosedImage,
    sources: Sequence[PosedImage],
    *,
    scaled: Map,
    sparse: SparseDepth,
    settings: RefineSettings,
    seed: int = 0,
) -> FirstRound:
    """Searches around the `scaled` depth (H, W; 0 unknown) and spreads what is sure.

    `sources` are the neighbours, best first. Without any, the scaled depth is returned, flagged
    and without confidence. The confidence is that of the photometric match, for use by the
    neighbours. Deterministic for a `seed`.
    """
    clock = _Clock()
    used, judge = split_held_out(len(sources), settings)
    record = _record(scaled, used, judge)
    if record["flags"]:
        return FirstRound(
            depth=scaled, confidence=np.zeros_like(scaled), coarse=scaled, record=record
        )
    coarse = scaled
    if settings.coarse.iterations:
        from refdepth.refine.paper.coarse import coarse_refine

        coarse = coarse_refine(scaled, sparse, settings.coarse, seed)
        clock.lap("coarse")
    depth, confidence = coarse, np.zeros_like(scaled)
    if settings.discrete:
        problem = ViewProblem(ref, [sources[i] for i in used], sparse, settings)
        base = shrink_depth(coarse, problem.factor)
        change, sure = problem.search(base, settings.search)
        clock.lap("search")
        change = problem.spread(base, (change[None], sure[None]), problem.points(base))
        clock.lap("propagation")
        depth = problem.corrected(coarse, change)
        confidence = grow(sure, problem.factor, scaled.shape) * (coarse > 0)
    record["seconds"] = clock.seconds
    return FirstRound(depth=depth, confidence=confidence, coarse=coarse, record=record)


def second_round(
    ref: PosedImage,
    sources: Sequence[PosedImage],
    *,
    scaled: Map,
    sparse: SparseDepth,
    first: DepthMap,
    source_depths: Sequence[DepthMap],
    settings: RefineSettings,
    renderer: Renderer | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RefinedView:
    """Joins a view's first round with its neighbours', searches again around what they agree on,
    then renders, refines and sharpens depth edges.

    `first` is the view's own first round, `source_depths` its neighbours', in the order of
    `sources`. The gradient steps need a `renderer`; `checkpoint` and `progress` belong to them.
    Where the neighbour left out does not see an improvement, `scaled` stays. Deterministic for a
    `seed`, interrupted or not. Raises `ValueError` when gradient steps are asked for without a
    renderer.
    """
    if settings.iterations and renderer is None:
        raise ValueError("gradient steps need a renderer")
    clock = _Clock()
    used, judge = split_held_out(len(sources), settings)
    record = _record(scaled, used, judge)
    if record["flags"]:
        return RefinedView(depth=scaled, confidence=np.zeros_like(scaled), record=record)
    helpers = [sources[i] for i in used]
    problem = ViewProblem(ref, helpers, sparse, settings)
    transferred = transfer(ref, helpers, [source_depths[i] for i in used], problem.factor)
    depth = first.depth
    if settings.discrete:
        depth = _agree(problem, scaled, first, transferred, settings)
        clock.lap("agreement")
    if settings.iterations and renderer is not None:
        from refdepth.refine.mesh.fine import fine_refine

        fine = fine_refine(
            ref,
            helpers,
            depth=depth,
            shape_prior=scaled,
            sparse=sparse,
            settings=settings.fine.model_copy(update={"iterations": settings.iterations}),
            renderer=renderer,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
        )
        depth, record["fine"] = fine.depth, fine.record
        clock.lap("fine")
    if settings.edge_reach:
        depth = sharpen_edges(depth, ref.image, settings.edge_reach)
        clock.lap("edges")
    if judge is not None:
        depth = _judge(
            ref, sources[judge], source_depths[judge], scaled, depth, sparse, settings, record
        )
        clock.lap("acceptance")
    confidence = view_confidence(
        problem.match, shrink_depth(depth, problem.factor), transferred, settings
    )
    clock.lap("confidence")
    record["seconds"] = clock.seconds
    return RefinedView(
        depth=depth,
        confidence=grow(confidence, problem.factor, depth.shape) * (depth > 0),
        record=record,
    )


def _agree(
    problem: ViewProblem,
    scaled: Map,
    first: DepthMap,
    transferred: Transferred,
    settings: RefineSettings,
) -> Map:
    """Depth (photo's grid) that the view's and its neighbours' first round agree on, searched
    again around it."""
    base, own, sure = (
        shrink_depth(picture, problem.factor) for picture in (scaled, first.depth, first.confidence)
    )
    change = log_ratio(own, base)
    theirs = opinions(transferred, base, settings.consistency, typical=_typical(change, sure))
    sure = np.maximum(sure, np.float32(settings.consistency.least_confidence))
    points = problem.points(base)
    spread = partial(
        problem.spread, rounds=settings.consistency.rounds, sure=settings.consistency.sure_weight
    )
    change = spread(base, (change[None], sure[None]), theirs, points, start=change)
    around = base * np.exp(change)
    found, sure = problem.search(around, settings.search_again, (theirs[0] - change, theirs[1]))
    change = spread(base, ((change + found)[None], sure[None]), theirs, points, start=change)
    return problem.corrected(scaled, change)


def _typical(change: Map, sure: Map) -> float:
    """Root mean square of a correction where it is sure."""
    total = float(sure.sum(dtype=np.float64))
    return float(np.sqrt((sure * change**2).sum(dtype=np.float64) / total)) if total > 0 else 0.0


def _judge(
    ref: PosedImage,
    judge: PosedImage,
    judge_depth: DepthMap,
    scaled: Map,
    depth: Map,
    sparse: SparseDepth,
    settings: RefineSettings,
    record: dict[str, Any],
) -> Map:
    """`depth` where the source left out says that it beats `scaled`, else `scaled`."""
    held_out = ViewProblem(ref, [judge], sparse, settings)
    verdict = accept(
        held_out,
        transfer(ref, [judge], [judge_depth], held_out.factor),
        shrink_depth(scaled, held_out.factor),
        shrink_depth(depth, held_out.factor),
    )
    record.update(verdict.summary())
    change = log_ratio(depth, scaled) * grow(verdict.share, held_out.factor, depth.shape)
    return scaled * np.exp(change)


def _record(scaled: Map, used: list[int], judge: int | None) -> dict[str, Any]:
    """The record of a round that has not begun; flagged where it cannot."""
    flags = []
    if not used:
        flags.append("no_sources")
    if not (scaled > 0).any():
        flags.append("no_prior")
    kept = {"accepted_share": 0.0, "kept_prior": True} if flags else {}
    return {"sources": len(used), "held_out": judge, "flags": flags, **kept}
