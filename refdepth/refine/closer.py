"""A closer look: large photos searched again on a finer grid, near the depth found on the working
grid, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from refdepth.arrays import Array, namespace, put
from refdepth.geometry.grid import WorkGrid, by_strips
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.propagation import propagate
from refdepth.matching.search import edge_links, search
from refdepth.refine.problem import ANCHOR, LEAST_LINK
from refdepth.refine.settings import CloserSettings, RefineSettings

HALO_ROWS = 32
"""Rows of the finer grid on either side of a part that are searched with it and left to the parts
beside it: what is cut off there changes little of what the part finds."""
LEAST_ROWS = 64
"""Of a part: with fewer, most of the work would be done twice."""


def look_closer(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    depth: Array,
    settings: RefineSettings,
) -> Array:
    """`depth` (H, W; photo's grid) moved to what a search around it on a finer grid finds; itself
    where no finer grid is allowed than the working one.

    Memory is that of a part no larger than the working grid, and of the sources' pictures on the
    finer one.
    """
    if _finer(ref, settings) is ref:
        return depth
    fine, *near = (_finer(view, settings) for view in (ref, *sources))

    def moved(part: WorkingView, there: Array) -> Array:
        return _moved(part, near, there, settings)

    return by_parts(moved, fine, settings.working_pixels, depth)


def by_parts(function: Callable[..., Array], fine: WorkingView, pixels: int, *maps: Array) -> Array:
    """`function` of a view and of `maps` (H, W; photo's grid), a map (H, W) as well, for some rows
    of the view `fine` at a time: about `pixels` of its grid."""
    factor = fine.grid.factor
    rows_at_once = max(LEAST_ROWS, pixels // fine.grid.shape[1] - 2 * HALO_ROWS)
    done = []
    for inner, around in _parts(fine.grid.shape[0], rows_at_once):
        part = fine.part(around)
        first = around.start * factor
        there = (values[first : first + part.grid.photo.height] for values in maps)
        found = function(part, *there)
        skipped = inner.start * factor - first
        done.append(found[skipped : skipped + (inner.stop - inner.start) * factor])
    return namespace(done[0]).concat(done)


def _finer(view: WorkingView, settings: RefineSettings) -> WorkingView:
    """A view on its finer grid; itself where there is none."""
    return view.at(WorkGrid.for_photo(view.grid.photo, **settings.finer_grid).factor)


def _moved(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    depth: Array,
    settings: RefineSettings,
) -> Array:
    """The same of a part of the photo, on the grid of `ref` and `sources`."""
    closer = settings.closer
    comparison = Comparison.of(Windows.of(ref, closer.match), sources)
    base = ref.grid.shrink_depth(depth)
    xp = namespace(base)
    reach = put(np.linspace(-1, 1, closer.steps, dtype=np.float32), ref.device)
    factors = xp.exp(_change(reach, closer))
    penalty = xp.abs(reach) * closer.match.prior_penalty
    match = search(comparison, base, factors, closer.match, extra=penalty)
    found = _change(match.step / (closer.steps - 1) * 2 - 1, closer)
    sure = photometric_confidence(match.zncc, match.texture)
    links = edge_links(
        ref.gray,
        base * xp.exp(found),
        image_edge=closer.spread.image_edge,
        depth_edge=closer.spread.depth_edge,
        floor=LEAST_LINK,
    )
    change = propagate(
        xp.stack([found, xp.zeros_like(found)]),
        xp.stack([sure, closer.stay * xp.ones_like(found)]),
        *links,
        smoothness=closer.spread.smoothness,
        outlier=closer.spread.outlier,
        anchor=ANCHOR,
        rounds=closer.spread.rounds,
    )
    return by_strips(lambda a, b: a * xp.exp(b), depth, ref.grid.grow(change))


def _change(reach: Array, closer: CloserSettings) -> Array:
    """The changes of log depth that are tried, for `reach` in [-1, 1]: close to each other around
    no change, ever further apart towards the ends."""
    fine = min(closer.step * (closer.steps - 1) / 2, closer.range)
    return fine * reach + (closer.range - fine) * reach**3


def _parts(height: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Rows of a grid in parts of at most `rows`, and each with those around it."""
    count = -(-height // rows)
    for part in range(count):
        inner = slice(height * part // count, height * (part + 1) // count)
        yield inner, slice(max(inner.start - HALO_ROWS, 0), min(inner.stop + HALO_ROWS, height))
