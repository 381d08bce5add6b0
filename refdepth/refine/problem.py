"""One view and its neighbours on the working grid, as the discrete rounds see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.working_view import WorkingView
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.propagation import propagate
from refdepth.matching.search import edge_links, search
from refdepth.refine.settings import RefineSettings, SearchSettings
from refdepth.refine.transfer import vote
from refdepth.types.scene import SparseDepth

Map = NDArray[np.float32]
Opinions = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Changes of log depth and their weights, (L, H, W) each."""
LEAST_LINK = 1e-4
"""Even across an edge a correction leaks a little, so that closed regions without data follow
their surroundings."""
ANCHOR = 1e-3
"""Pull towards no change: decides where nothing else does."""


class ViewProblem:
    """A reference, the sources it is compared with, and the SfM points it sees.

    Corrections are changes of the log of a base depth, maps (H, W) on the working grid.
    """

    def __init__(
        self,
        ref: WorkingView,
        sources: Sequence[WorkingView],
        sparse: SparseDepth,
        settings: RefineSettings,
        windows: Windows | None = None,
    ) -> None:
        """`windows` are the reference's, where they have been made before."""
        self.settings = settings
        self.sparse = sparse
        self.ref = ref
        self.windows = windows or Windows.of(ref, settings.match)
        self.comparison = Comparison.of(self.windows, sources)

    def search(
        self, base: Map, hypotheses: SearchSettings, neighbours: Opinions | None = None
    ) -> tuple[Map, Map]:
        """The change that looks most alike in the sources, and its confidence in [0, 1].
        `neighbours`, where given, have a vote."""
        reach = np.linspace(-1, 1, hypotheses.steps, dtype=np.float32)
        changes = reach * np.float32(hypotheses.range)
        extra: Map = np.abs(reach) * np.float32(self.settings.match.prior_penalty)
        if neighbours is not None:
            consistency = self.settings.consistency
            extra = np.tile(extra, (*base.shape, 1))
            vote(*neighbours, changes, consistency.vote_tolerance, consistency.vote_gain, extra)
        found = search(self.comparison, base, np.exp(changes), self.settings.match, extra=extra)
        change = (found.step / (hypotheses.steps - 1) * 2 - 1) * np.float32(hypotheses.range)
        return change.astype(np.float32), photometric_confidence(found.zncc, found.texture)

    def points(self, base: Map) -> Opinions:
        """The change that the SfM points ask for (1, H, W), and their weight. Points far from the
        base belong to another surface."""
        value, weight = np.zeros_like(base), np.zeros_like(base)
        y, x = self.ref.grid.cells(self.sparse.xy)
        there = base[y, x]
        ratio = np.divide(self.sparse.depth, there, where=there > 0, out=np.zeros(len(there)))
        near = np.abs(np.log(np.maximum(ratio, 1e-12))) < self.settings.search.range
        value[y[near], x[near]] = np.log(ratio[near])
        weight[y[near], x[near]] = self.settings.propagation.sparse_weight
        return value[None], weight[None]

    def links(self, depth: Map) -> tuple[Map, Map]:
        """How strongly pixels of `depth` (H, W) belong to their right and lower neighbours."""
        settings = self.settings.propagation
        return edge_links(
            self.ref.gray,
            depth,
            image_edge=settings.image_edge,
            depth_edge=settings.depth_edge,
            floor=LEAST_LINK,
        )

    def spread(
        self,
        base: Map,
        *opinions: Opinions,
        start: Map | None = None,
        rounds: int | None = None,
        sure: float = 0.0,
    ) -> Map:
        """The change that is smooth except across edges and fits the opinions; those of less
        weight than `sure` may lie further off."""
        settings = self.settings.propagation
        return propagate(
            np.concatenate([values for values, _ in opinions]),
            np.concatenate([weights for _, weights in opinions]),
            *self.links(base),
            smoothness=settings.smoothness,
            outlier=settings.outlier,
            sure=sure,
            anchor=ANCHOR,
            rounds=rounds or settings.rounds,
            start=start,
        )
