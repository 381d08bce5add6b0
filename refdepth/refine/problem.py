"""One view and its neighbours on the working grid, as the discrete rounds see them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, at_least, at_pixels, is_tensor, namespace, put, put_like
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.propagation import propagate
from refdepth.matching.search import Match, edge_links, search
from refdepth.refine.settings import RefineSettings, SearchSettings
from refdepth.refine.transfer_kernels import vote
from refdepth.types.scene import SparseDepth

Opinions = tuple[Array, Array]
"""Changes of log depth and their weights, (L, H, W) each."""
LEAST_LINK = 1e-4
"""Even across an edge a correction leaks a little, so that closed regions without data follow
their surroundings."""
ANCHOR = 1e-3
"""Pull towards no change: decides where nothing else does."""
SIDE_PX = 100.0
"""Smoothness is meant for a grid of so many pixels a side, and grows with the side: of a finer grid
more pixels together say how far off the prior is somewhere."""


class ViewProblem:
    """A reference, the sources it is compared with, and the SfM points it sees.

    Corrections are changes of the log of a base depth, maps (H, W) on the working grid, and live
    where the reference's maps do.
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

    def match(
        self, base: Array, hypotheses: SearchSettings, neighbours: Opinions | None = None
    ) -> tuple[Array, Match]:
        """The change that looks most alike in the sources, and how well it does. `neighbours`,
        where given, have a vote."""
        reach = np.linspace(-1, 1, hypotheses.steps, dtype=np.float32)
        changes = put(reach * np.float32(hypotheses.range), self.ref.device)
        factors = namespace(changes).exp(changes)
        extra = np.abs(reach) * np.float32(self.settings.match.prior_penalty)
        extra = put(extra, self.ref.device)
        if neighbours is not None:
            extra = self._with_votes(extra, changes, neighbours)
        found = search(self.comparison, base, factors, self.settings.match, extra=extra)
        change = (found.step / (hypotheses.steps - 1) * 2 - 1) * hypotheses.range
        return change, found

    def _with_votes(self, extra: Array, changes: Array, neighbours: Opinions) -> Array:
        """Cost (H, W, D): `extra` (D,), and what the neighbours' opinions say on `changes` (D,)."""
        consistency = self.settings.consistency
        by = consistency.vote_tolerance, consistency.vote_gain
        if is_tensor(extra):
            from refdepth.refine import torch_transfer

            return torch_transfer.vote(*neighbours, changes, *by) + extra
        volume = np.tile(extra, (*self.ref.grid.shape, 1))
        vote(*neighbours, changes, *by, volume)
        return volume

    def points(self, base: Array) -> Opinions:
        """The change that the SfM points ask for (1, H, W), and their weight. Points far from the
        base belong to another surface."""
        xp = namespace(base)
        cells = self.ref.grid.cells(self.sparse.xy)
        change = log_at(base, cells, self.sparse.depth)
        near = xp.abs(change) < self.settings.search.range
        value = at_pixels(self.ref.grid.shape, cells, change, near)
        weight = self.settings.propagation.sparse_weight * xp.ones_like(change)
        return value[None], at_pixels(self.ref.grid.shape, cells, weight, near)[None]

    def links(self, depth: Array) -> tuple[Array, Array]:
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
        base: Array,
        *opinions: Opinions,
        start: Array | None = None,
        rounds: int | None = None,
        sure: float = 0.0,
    ) -> Array:
        """The change that is smooth except across edges and fits the opinions; those of less
        weight than `sure` may lie further off."""
        settings = self.settings.propagation
        xp = namespace(base)
        return propagate(
            xp.concat([values for values, _ in opinions]),
            xp.concat([weights for _, weights in opinions]),
            *self.links(base),
            smoothness=settings.smoothness * math.sqrt(math.prod(base.shape)) / SIDE_PX,
            outlier=settings.outlier,
            sure=sure,
            anchor=ANCHOR,
            rounds=rounds or settings.rounds,
            start=start,
            twicing=True,
        )


def log_at(base: Array, cells: tuple[NDArray[np.int64], NDArray[np.int64]], depth: Array) -> Array:
    """log(depth / base) (N,) of points of `depth` (N,) in the pixels `cells` of `base` (H, W); far
    from everything where that is unknown."""
    xp = namespace(base)
    rows, columns = (put_like(index, base) for index in cells)
    there = base[rows, columns]
    depth = put_like(depth.astype(np.float32), base) if is_tensor(base) else depth
    ratio = xp.where(there > 0, depth / xp.where(there > 0, there, 1.0), 0.0)
    return xp.log(at_least(ratio, 1e-12))
