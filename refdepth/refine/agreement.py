"""Joining what a view found with what its neighbours found."""

from __future__ import annotations

from functools import partial

from refdepth.arrays import Array, at_least, is_tensor, namespace
from refdepth.geometry.grid import by_strips, log_ratio
from refdepth.refine.problem import ViewProblem
from refdepth.refine.settings import RefineSettings
from refdepth.refine.slant import search
from refdepth.refine.transfer import Transferred, opinions


def agree(
    problem: ViewProblem,
    scaled: Array,
    first: tuple[Array, Array],
    transferred: Transferred,
    settings: RefineSettings,
    normals: Array | None,
) -> Array:
    """Depth (photo's grid) that the view's `first` round (depth and confidence on the working grid)
    and its neighbours' agree on, searched again around it."""
    xp = namespace(scaled)
    grid = problem.ref.grid
    base = grid.shrink_depth(scaled)
    depth, sure = first
    change = log_ratio(depth, base)
    values, weights = opinions(
        transferred, base, settings.consistency, typical=_typical(change, sure)
    )
    usable = problem.ref.usable
    theirs = values, weights * usable
    sure = at_least(sure, settings.consistency.least_confidence) * usable
    points = problem.points(base)
    spread = partial(
        problem.spread, rounds=settings.consistency.rounds, sure=settings.consistency.sure_weight
    )
    change = spread(base, (change[None], sure[None]), theirs, points, start=change)
    around = base * xp.exp(change)
    votes = theirs[0] - change, theirs[1]
    found, sure = search(problem, around, settings.search_again, votes, normals=normals)
    change = spread(base, ((change + found)[None], sure[None]), theirs, points, start=change)
    return by_strips(lambda a, b: a * xp.exp(b), scaled, grid.grow(change))


def _typical(change: Array, sure: Array) -> Array:
    """Root mean square of a correction where it is sure; 0 where nothing is."""
    xp = namespace(change)
    precise = {} if is_tensor(change) else {"dtype": xp.float64}  # not every device has it
    squares = xp.sum(sure * change**2, **precise)
    return xp.sqrt(squares / xp.clip(xp.sum(sure, **precise), 1e-30, None))
