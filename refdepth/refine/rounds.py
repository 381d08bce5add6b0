"""The two rounds of a view's refinement, each a plain function of its inputs.

The first looks at photos alone; the second also at what the first found in the neighbours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.depth_map import DepthMap
from refdepth.refine.acceptance import accept
from refdepth.refine.confidence import photometric_confidence, view_confidence
from refdepth.refine.consistency import opinions, transfer
from refdepth.refine.propagation import propagate
from refdepth.refine.resampling import grow, reduction, shrink_depth
from refdepth.refine.search import MatchInput, edge_links, prepare_match, search
from refdepth.refine.settings import PropagationSettings, RefineSettings, SearchSettings
from refdepth.scene import PosedImage, SparseDepth

logger = logging.getLogger(__name__)

Map = NDArray[np.float32]
LEAST_LINK = 1e-4
"""Even across an edge a correction leaks a little, so that closed regions without data follow
their surroundings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstRound:
    """A view after the first round, in the grid of its photo."""

    depth: Map
    confidence: Map
    coarse: Map
    """Depth after the coarse stage."""
    record: dict[str, Any]

    @property
    def depth_map(self) -> DepthMap:
        """Depth and confidence alone: what neighbours' second round needs."""
        return DepthMap(depth=self.depth, confidence=self.confidence)


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedView:
    """A view after the second round, in the grid of its photo."""

    depth: Map
    confidence: Map
    record: dict[str, Any]

    @property
    def depth_map(self) -> DepthMap:
        """Depth and confidence alone."""
        return DepthMap(depth=self.depth, confidence=self.confidence)


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

    `sources` are the neighbours, best first. Deterministic for a `seed`.
    """
    clock = _Clock()
    coarse = scaled
    if settings.coarse.iterations:
        from refdepth.refine.coarse import coarse_refine

        coarse = coarse_refine(scaled, sparse, settings.coarse, seed)
    clock.lap("coarse")
    used, judge = split_held_out(len(sources), settings)
    record: dict[str, Any] = {"sources": len(used), "held_out": judge, "flags": []}
    if not sources or not (scaled > 0).any():
        record["flags"].append("no_sources" if not sources else "no_prior")
        confidence = np.zeros_like(scaled)
        return FirstRound(depth=coarse, confidence=confidence, coarse=coarse, record=record)
    factor = reduction(scaled.shape, settings.working_pixels, settings.least_reduction)
    match = prepare_match(ref, [sources[i] for i in used], factor, settings.match)
    depth = shrink_depth(coarse, factor)
    change, confidence = _search(match, depth, settings.search, settings)
    clock.lap("search")
    values, weights = [change], [confidence]
    _add_sparse(values, weights, sparse, depth, factor, settings)
    change = _spread(match, depth, values, weights, settings.propagation)
    clock.lap("propagation")
    record["seconds"] = clock.seconds
    return FirstRound(
        depth=_corrected(coarse, change, factor),
        confidence=grow(confidence, factor, scaled.shape) * (coarse > 0),
        coarse=coarse,
        record=record,
    )


def second_round(
    ref: PosedImage,
    sources: Sequence[PosedImage],
    *,
    scaled: Map,
    sparse: SparseDepth,
    first: DepthMap,
    source_depths: Sequence[DepthMap],
    settings: RefineSettings,
) -> RefinedView:
    """Joins a view's first round with its neighbours' and searches again around what they agree on.

    `first` is the view's own first round, `source_depths` its neighbours', in the order of
    `sources`. Where the neighbour left out does not see an improvement, `scaled` stays.
    Deterministic.
    """
    clock = _Clock()
    used, judge = split_held_out(len(sources), settings)
    record: dict[str, Any] = {"sources": len(used), "held_out": judge, "flags": []}
    if not sources or not (scaled > 0).any():
        record["flags"].append("no_sources" if not sources else "no_prior")
        return RefinedView(depth=scaled, confidence=np.zeros_like(scaled), record=record)
    factor = reduction(scaled.shape, settings.working_pixels, settings.least_reduction)
    match = prepare_match(ref, [sources[i] for i in used], factor, settings.match)
    base = shrink_depth(scaled, factor)
    own = shrink_depth(first.depth, factor)
    transferred = transfer(
        ref, [sources[i] for i in used], [source_depths[i] for i in used], factor
    )
    clock.lap("transfer")
    change = _log_ratio(own, base)
    own_confidence = np.maximum(
        shrink_depth(first.confidence, factor), settings.consistency.least_confidence
    )
    theirs, their_weights = opinions(transferred, base, settings.consistency)
    values, weights = [change, *theirs], [own_confidence, *their_weights]
    _add_sparse(values, weights, sparse, base, factor, settings)
    change = _spread(
        match,
        base,
        values,
        weights,
        settings.propagation,
        start=change,
        rounds=settings.consistency.rounds,
    )
    clock.lap("consistency")
    depth = base * np.exp(change)
    confidence = view_confidence(match, depth, transferred, settings.match.best_sources)
    if judge is not None:
        held = prepare_match(ref, [sources[judge]], factor, settings.match)
        verdict = accept(held, base, depth, settings.acceptance, settings.propagation)
        change = change * verdict.share
        record["accepted"] = float(verdict.share[base > 0].mean())
        record["held_out_before"] = verdict.score_before
        record["held_out_after"] = verdict.score_after
        clock.lap("acceptance")
    else:
        record["flags"].append("no_held_out")
    record["seconds"] = clock.seconds
    return RefinedView(
        depth=_corrected(scaled, change, factor),
        confidence=grow(confidence, factor, scaled.shape) * (scaled > 0),
        record=record,
    )


def _search(
    match: MatchInput, depth: Map, hypotheses: SearchSettings, settings: RefineSettings
) -> tuple[Map, Map]:
    """Change of log depth (H, W) that matches best, and how sure it is."""
    changes = np.linspace(-hypotheses.range, hypotheses.range, hypotheses.steps)
    penalty = settings.match.prior_penalty * np.abs(changes) / hypotheses.range
    found = search(match, depth, np.exp(changes), settings.match, extra=penalty.astype(np.float32))
    change = (found.step / (hypotheses.steps - 1) * 2 - 1) * np.float32(hypotheses.range)
    return change, photometric_confidence(found.zncc, found.texture)


def _add_sparse(
    values: list[Map],
    weights: list[Map],
    sparse: SparseDepth,
    depth: Map,
    factor: int,
    settings: RefineSettings,
) -> None:
    """Adds the SfM points as one more opinion on the change of log `depth`."""
    value, weight = np.zeros_like(depth), np.zeros_like(depth)
    x, y = (sparse.xy / factor).astype(np.int64).T
    there = depth[y, x]
    known = there > 0
    change = np.log(sparse.depth[known] / there[known])
    known[known] = np.abs(change) < settings.search.range
    near = np.abs(change) < settings.search.range
    value[y[known], x[known]] = change[near]
    weight[y[known], x[known]] = settings.propagation.sparse_weight
    values.append(value)
    weights.append(weight)


def _spread(
    match: MatchInput,
    depth: Map,
    values: list[Map],
    weights: list[Map],
    settings: PropagationSettings,
    *,
    start: Map | None = None,
    rounds: int | None = None,
) -> Map:
    """The smooth change of log `depth` that fits the opinions."""
    links = edge_links(
        match.gray,
        depth,
        image_edge=settings.image_edge,
        depth_edge=settings.depth_edge,
        floor=LEAST_LINK,
    )
    return propagate(
        np.stack(values),
        np.stack(weights),
        *links,
        smoothness=settings.smoothness,
        outlier=settings.outlier,
        anchor=1e-3,
        rounds=rounds or settings.rounds,
        start=start,
    )


def _log_ratio(depth: Map, base: Map) -> Map:
    """log(depth / base), 0 where either is unknown."""
    both = (depth > 0) & (base > 0)
    ratio = np.divide(depth, base, where=both, out=np.ones_like(base))
    return np.log(ratio)


def _corrected(depth: Map, change: Map, factor: int) -> Map:
    """`depth` (photo's grid) moved by a change of log depth (working grid)."""
    return depth * np.exp(grow(change.astype(np.float32), factor, depth.shape))
