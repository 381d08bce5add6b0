"""A prior too far off for the search around it is first bent to what the photos alone say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refdepth.arrays import Array, at_pixels, fetch, median_of, namespace
from refdepth.geometry.grid import WorkGrid, by_strips, log_ratio
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.plane_sweep import sweep_planes
from refdepth.matching.propagation import SURE_POWER, propagate
from refdepth.matching.search import edge_links
from refdepth.refine.problem import log_at
from refdepth.refine.settings import WideSettings
from refdepth.types.scene import Scene, SparseDepth

LEAST_POINTS = 20
"""Fewer SfM points say nothing about a prior."""
ERROR_QUANTILE = 0.75
OUTSTANDING = 3.0
"""A view so many times as far off as the middling one is believed to be."""
BOUND_QUANTILES = 0.005, 0.995
LEAST_LINK = 0.02
"""Even across an edge a correction leaks, so that regions without texture follow others."""
ANCHOR = 1e-4
"""Pull towards no change: decides where nothing else does."""


def prior_errors(measured: Mapping[str, float]) -> dict[str, float]:
    """How far off each view's scaled prior is taken to be, from what was measured at its points
    (NaN: nothing). Priors of one scene are of one kind, and a view's points are few and on texture:
    the scene's middling error counts, except for a view that is more than three times as far
    off."""
    known = [error for error in measured.values() if np.isfinite(error)]
    typical = float(np.median(known)) if known else 0.0
    return {name: own if own > OUTSTANDING * typical else typical for name, own in measured.items()}


def measured_error(base: Array, sparse: SparseDepth, grid: WorkGrid) -> float:
    """How far off a scaled prior (H, W, working grid; 0 unknown, infinite in the sky) is: log depth
    within which three quarters of the SfM points lie. 0 where there are too few points to say."""
    y, x = grid.cells(sparse.xy)
    there = fetch(base)[y, x]
    known = (there > 0) & np.isfinite(there)
    if known.sum() < LEAST_POINTS:
        return 0.0
    error = np.abs(np.log(sparse.depth[known] / there[known]))
    return float(np.quantile(error, ERROR_QUANTILE))


def scene_errors(
    scene: Scene, scaled: Mapping[str, Array], grid: Mapping[str, int]
) -> dict[str, float]:
    """`prior_errors` of `scaled` depth maps (H, W) by view name, from the residuals at the SfM
    points; `grid` are the working grid's limits."""
    measured = {}
    for name, depth in scaled.items():
        view = scene[name]
        working = WorkGrid.for_photo(view.camera, **grid)
        base = working.shrink_depth(depth)
        measured[name] = measured_error(base, scene.sparse_depth(view), working)
    return prior_errors(measured)


def bend_to_photos(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    base: Array,
    sparse: SparseDepth,
    settings: WideSettings,
) -> Array:
    """Depth `base` (H, W, working grid; 0 unknown) moved to where a plane sweep between the scene's
    bounds, and the SfM points, say that it is. The correction is a smooth change of log depth, so
    that the prior keeps its shape where the photos say little."""
    xp = namespace(base)
    known = base > 0
    filled = xp.where(known, base, xp.astype(xp.asarray(median_of(base, known)), xp.float32))
    swept = sweep_planes(
        ref, sources, _bounds(filled, sparse, settings), settings.planes, settings.match
    )
    cells = ref.grid.cells(sparse.xy)
    asked = log_at(filled, cells, sparse.depth)
    all_of_them = xp.ones_like(asked, dtype=xp.bool)
    points = at_pixels(ref.grid.shape, cells, asked, all_of_them)
    weight = settings.spread.sparse_weight * xp.ones_like(asked)
    point_weight = at_pixels(ref.grid.shape, cells, weight, all_of_them)
    links = edge_links(
        ref.gray,
        filled,
        image_edge=settings.spread.image_edge,
        depth_edge=settings.spread.depth_edge,
        floor=LEAST_LINK,
    )
    change = propagate(
        xp.stack([swept.log_depth - xp.log(filled), points]),
        xp.stack([swept.confidence**SURE_POWER, point_weight]),
        *links,
        smoothness=settings.spread.smoothness,
        outlier=settings.spread.outlier,
        anchor=ANCHOR,
        rounds=settings.spread.rounds,
        twicing=True,
    )
    return xp.where(known, filled * xp.exp(change), 0.0)


def moved(scaled: Array, base: Array, depth: Array, grid: WorkGrid) -> Array:
    """`scaled` (photo's grid) changed as `base` became `depth` (working grid)."""
    exp = namespace(scaled).exp
    return by_strips(lambda a, b: a * exp(b), scaled, grid.grow(log_ratio(depth, base)))


def _bounds(base: Array, sparse: SparseDepth, settings: WideSettings) -> tuple[float, float]:
    """Nearest and farthest depth worth trying."""
    known = sparse.depth if len(sparse) >= LEAST_POINTS else fetch(base)
    near, far = np.quantile(known, BOUND_QUANTILES)
    return float(near / settings.near_margin), float(far * settings.margin)
