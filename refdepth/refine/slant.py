"""Given normals as the slant of what the search tries, taken where photos agree better with it."""

from __future__ import annotations

import numpy as np

from refdepth.arrays import Array, namespace, put_like
from refdepth.geometry.grid import log_ratio
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.propagation import solve
from refdepth.refine.problem import Opinions, ViewProblem
from refdepth.refine.settings import SearchSettings
from refdepth.types.camera import PinholeCamera

REACH_PX = 6.0
"""How far slopes are followed on the working grid: over a window and around it. What lies further
apart keeps the depth that it has, so that normals that are wrong everywhere move nothing far."""
GRAZING = 0.1
"""Least cosine between a normal and the line of sight: of surfaces seen along themselves slopes are
all but unknown."""
LARGEST_SLOPE = 0.1
"""Largest change of log depth from a pixel to the next that is believed."""
POOLING = 30.0
"""How far gains are pooled over a surface: weight of a smooth gain against a textured pixel."""
CLEAR_GAIN = 0.005
"""Pooled gain in correlation from which the given slant is taken."""


def search(
    problem: ViewProblem,
    base: Array,
    hypotheses: SearchSettings,
    neighbours: Opinions | None = None,
    *,
    normals: Array | None = None,
) -> tuple[Array, Array]:
    """`ViewProblem.search` around `base` (H, W) and, where there are `normals` (H, W, 3; camera
    axes, 0 unknown), also around the same depth with their slant: windows then follow that. On
    surfaces where the photos correlate more over it, what is found there is what is returned."""
    change, match = problem.match(base, hypotheses, neighbours)
    sure = photometric_confidence(match.zncc, match.texture)
    if normals is None:
        return change, sure
    xp = namespace(base)
    slanted = with_slant(base, normals, problem.ref.grid.camera, problem.links(base))
    moved = log_ratio(slanted, base)
    if neighbours is not None:
        neighbours = neighbours[0] - moved, neighbours[1]
    other, other_match = problem.match(slanted, hypotheses, neighbours)
    weight = match.texture + 1e-3
    link_x, link_y = problem.links(base)
    gain = solve(
        weight,
        POOLING * link_x,
        POOLING * link_y,
        weight * (other_match.zncc - match.zncc),
    )
    better = gain > CLEAR_GAIN
    other_sure = photometric_confidence(other_match.zncc, other_match.texture)
    return xp.where(better, other + moved, change), xp.where(better, other_sure, sure)


def with_slant(
    base: Array, normals: Array, camera: PinholeCamera, links: tuple[Array, Array]
) -> Array:
    """The depth nearest to `base` (H, W; 0 unknown) whose slopes are those of `normals` (H, W, 3)
    where these are known, and its own elsewhere; `links` free neighbours across edges.

    A plane n . X = d has log z = log d - log(n . r) along the ray r = K^-1 (x, y, 1). Minimises
    sum link (c_j - c_i - t_ij)^2 + sum c^2 / REACH_PX^2 for the change c of log depth, t_ij being
    by how much more the plane rises between two neighbours than `base` does.
    """
    xp = namespace(base)
    rays = put_like(camera.rays().astype(np.float32), base)
    depth = xp.log(xp.where(base > 0, base, 1.0))
    facing = -xp.sum(normals * rays, axis=2)
    length = xp.sqrt(xp.sum(rays * rays, axis=2))
    known = (facing > GRAZING * length) & (base > 0)
    rhs = xp.zeros_like(base)
    for axis, link in ((1, links[0]), (0, links[1])):
        first, second = _pairs(axis)
        here, there = rays[first], rays[second]
        rise = 0.0
        both = known[first] & known[second]
        for of_pair in (normals[first], normals[second]):
            one = -xp.sum(of_pair * here, axis=2)
            two = -xp.sum(of_pair * there, axis=2)
            both = both & (one > 0) & (two > 0)
            rise = rise + 0.5 * xp.log(xp.where(both, one, 1.0) / xp.where(both, two, 1.0))
        own = depth[second] - depth[first]
        both = both & (xp.abs(rise) < LARGEST_SLOPE)
        pull = link * xp.where(both, rise - own, 0.0)
        rhs[first] -= pull
        rhs[second] += pull
    data = xp.ones_like(base) / REACH_PX**2
    change = solve(_wide(data), _wide(links[0]), _wide(links[1]), _wide(rhs))
    return xp.where(base > 0, base * xp.exp(xp.astype(change, base.dtype)), 0.0)


def _pairs(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """A map without its last and without its first row or column."""
    before, after = slice(None, -1), slice(1, None)
    if axis == 0:
        return (before,), (after,)
    return (slice(None), before), (slice(None), after)


def _wide(values: Array) -> Array:
    """As the solver on the CPU takes them."""
    return values.astype(np.float64) if isinstance(values, np.ndarray) else values
