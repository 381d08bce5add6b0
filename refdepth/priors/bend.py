"""Bending a fitted prior towards the SfM points: a smooth factor on depth, where points ask for it.

One line a view leaves what a network gets wrong slowly over the picture. The log ratio between
points and fitted prior is interpolated as a Gaussian process over the picture (kriging), with the
rational quadratic kernel s^2 / (1 + (d / reach)^2); far from points it fades to no correction, and
the prior's own edges stay sharp. How far it follows the points is decided by points left out, a
part of the picture at a time (Roberts et al. 2017, "Cross-validation strategies for data with
temporal, spatial, hierarchical, or phylogenetic structure").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOST_POINTS, _FEWEST_POINTS = 300, 24
"""The solution takes time as the third power of the points."""
_THINNING_CELLS = 24
"""Points are thinned evenly over cells; so many lie along the picture's width."""
_CELLS, _FOLDS = 8, 5
"""Cells along each side of the picture that are left out whole, and how many times some are."""
_STRENGTHS = ((0.4, 0.1), (0.2, 0.1), (0.2, 0.05))
"""(reach as a share of the picture's width, relative error expected of a point), from stiff to
yielding."""
_WORTH = 0.98
"""A strength is taken if the left-out error falls to less than this share of the one before."""
_SATURATION = 0.1
"""Relative errors beyond count little more when strengths are compared."""
_ROUNDS = 4
_OUTLIER = 2.0
"""Cauchy width of a point's weight, in expected errors."""
_LEAST_SPREAD, _MOST_SPREAD = 0.02, 0.7
"""Bounds of the prior's own expected log error."""
_NODES = 32
"""Intervals of the correction's grid along the picture's width."""


@dataclass(frozen=True, kw_only=True)
class Bend:
    """A smooth correction of one view's fitted depth."""

    nodes: tuple[tuple[float, ...], ...]
    """Log factor on depth at nodes evenly spread over the picture, its borders included: rows from
    above."""
    reach: float
    """How far a point's word carries, as a share of the picture's width."""
    tolerance: float
    """Relative error expected of a point."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Bend:
        """From the plain JSON values that `dataclasses.asdict` gives."""
        return cls(**{**values, "nodes": tuple(tuple(row) for row in values["nodes"])})

    def factor(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The factor on depth (H, W) for a picture of `shape`: bilinear between the nodes."""
        nodes = np.array(self.nodes, np.float32)
        for axis in (0, 1):
            place = (np.arange(shape[axis]) + 0.5) * ((nodes.shape[axis] - 1) / shape[axis])
            low = np.minimum(place.astype(np.intp), nodes.shape[axis] - 2)
            share = (place - low).astype(np.float32)
            share = share[:, None] if axis == 0 else share
            nodes = nodes.take(low, axis) * (1 - share) + nodes.take(low + 1, axis) * share
        return np.exp(nodes)


def fit_bend(
    xy: Array, log_ratio: Array, weight: Array, shape: tuple[float, float]
) -> tuple[Bend | None, Array, Array]:
    """The correction that points (N,) at pixels `xy` (N, 2) of a picture of `shape` ask for, whose
    depth is exp(`log_ratio`) times that of the fitted line; `weight` (N,) says how sure they are.

    None where points are few or where left-out points do not come out better. Outliers have little
    say. Also log depth errors at some of the points (M,): of the line, and with the correction,
    each point with its part of the picture left out. Deterministic.
    """
    kept = _thinned(xy / shape[1], weight)
    place, y, weight = xy[kept] / shape[1], log_ratio[kept], weight[kept]
    if len(y) < _FEWEST_POINTS:
        return None, y, y
    fold = _folds(place, shape)
    order = np.argsort(fold, kind="stable")
    place, y, weight = place[order], y[order], weight[order]
    ends = np.searchsorted(fold[order], np.arange(_FOLDS), side="right")
    spread = float(np.clip(1.48 * np.median(np.abs(y)), _LEAST_SPREAD, _MOST_SPREAD))
    unsure = np.sqrt(np.median(weight) / weight)
    best, error, chosen = _saturated(y, weight), y, None
    trust = np.ones(len(y))
    for reach, tolerance in _STRENGTHS:
        noise = np.square(tolerance * unsure)
        covariance = spread**2 * _kernel(place, place, reach)
        pull, missed, trust = _solve(covariance, noise, y, trust, ends)
        found = _saturated(missed, weight)
        if found < _WORTH * best:
            best, error, chosen = found, missed, (reach, tolerance, pull, trust)
    if chosen is None:
        return None, y, y
    reach, tolerance, pull, trust = chosen
    at = _grid(shape)
    correction = spread**2 * np.einsum("ij,j", _kernel(at.reshape(-1, 2), place, reach), pull)
    believed = y[trust > 0.5]
    correction = np.clip(correction, believed.min(initial=0.0), believed.max(initial=0.0))
    nodes = correction.reshape(at.shape[:2]).round(5)
    bend = Bend(
        nodes=tuple(tuple(map(float, row)) for row in nodes), reach=reach, tolerance=tolerance
    )
    return bend, y, error


def _grid(shape: tuple[float, float]) -> Array:
    """Places (rows, columns, 2) of the nodes, in widths of the picture."""
    height = shape[0] / shape[1]
    rows = np.linspace(0, height, max(round(_NODES * height), 1) + 1)
    columns = np.linspace(0, 1, _NODES + 1)
    return np.stack(np.meshgrid(columns, rows), axis=-1)


def _kernel(a: Array, b: Array, reach: float) -> Array:
    """Correlation (A, B) between the corrections at places (A, 2) and (B, 2)."""
    squared = (a[:, None, 0] - b[:, 0]) ** 2 + (a[:, None, 1] - b[:, 1]) ** 2
    return 1 / (1 + squared / reach**2)


def _solve(
    covariance: Array, noise: Array, y: Array, trust: Array, ends: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """(pull (N,) of each point on the correction, what the correction misses at each point (N,)
    when its fold is left out, trust (N,) in each point) for points in folds that end before `ends`.

    Iteratively reweighted: what lies far from the correction, in its expected errors, is noise.
    Folds are left out without solving anew, each point weighing what it does with all of them
    (Rasmussen & Williams 2006, section 5.4.2, for groups of points).
    """
    from refdepth.priors.kriging_kernels import factorise, solve, solve_blocks

    for _ in range(_ROUNDS):
        inflated = noise / trust
        factor = covariance + np.diag(inflated)
        factorise(factor)
        pull = y.copy()
        solve(factor, pull)
        trust = 1 / (1 + np.square(inflated * pull) / (_OUTLIER**2 * noise))
    missed = pull.copy()
    solve_blocks(factor, missed, ends)
    return pull, missed, trust


def _saturated(error: Array, weight: Array) -> float:
    """Weighted mean of errors of which large ones count little more than middling ones."""
    error = np.abs(error)
    return float(weight @ (error / (error + _SATURATION)) / weight.sum())


def _folds(place: Array, shape: tuple[float, float]) -> NDArray[np.int64]:
    """Fold (N,) of each place: whole cells of the picture, never the same for neighbours."""
    column = np.clip(place[:, 0] * _CELLS, 0, _CELLS - 1).astype(np.int64)
    row = np.clip(place[:, 1] * (_CELLS * shape[1] / shape[0]), 0, _CELLS - 1).astype(np.int64)
    return (column + 2 * row) % _FOLDS


def _thinned(place: Array, weight: Array) -> NDArray[np.int64]:
    """Which points to keep: the surest of every small cell first, then the next of each."""
    if len(place) <= _MOST_POINTS:
        return np.arange(len(place))
    cells = np.floor(place * _THINNING_CELLS).astype(np.int64)
    cell = cells[:, 1] * (_THINNING_CELLS + 1) + cells[:, 0]
    order = np.lexsort((place[:, 1], place[:, 0], -weight, cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    return order[np.argsort(rank, kind="stable")[:_MOST_POINTS]]
