"""A scene's confidence: of pixels with confidence c, about a share c lies within 3 % of the truth.

The order of the pixels stays that of `Trust.order`. Its curve is the mean of `Trust.chance` at that
order over all pixels of the scene, made monotone. SfM points that the refinement was not given
judge it: where they are right less often than the curve says, the curve is lowered. They cannot
raise it: points sit on texture, and say nothing good about plain surfaces. Their errors are
measured against structure from motion, which the scaled prior was fitted to and which may itself
be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar

from refdepth.geometry.grid import WorkGrid, by_strips
from refdepth.refine.confidence import Trust
from refdepth.types.scene import SparseDepth

Map = NDArray[np.float32]
Array = NDArray[np.float64]
WITHIN = 0.03
"""Relative error up to which a depth is right."""
WRONG_POINTS = 0.05
"""Share of the judges that are taken to be wrong themselves."""
OFFSET_SPREAD, MOST_OFFSET = 1.0, 4.0
"""How far scenes stray from the curve in log odds, and the furthest that is believed."""
BINS = 64
"""Bins of the order, narrow where it is small."""
TIE_BREAK = 0.01
"""Share of the order itself in the confidence, so that no two orders share a confidence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What one view says about the scene's curve."""

    count: Array
    """Pixels of the working grid in each bin of the order (BINS,)."""
    chance: Array
    """Sum of their chances (BINS,)."""
    order: Array
    """Order at each judging point (M,)."""
    error: Array
    """Relative error of the depth there (M,)."""
    weight: Array
    """Views see the same points: each counts with the inverse of its number of views (M,)."""

    @classmethod
    def of(cls, trust: Trust, grid: WorkGrid, depth: Map, judges: SparseDepth | None) -> Evidence:
        """Of a view with `depth` (H, W; photo's grid) and the points that judge it (see `Judges`),
        if any."""
        known = trust.order > 0
        place = _bins(trust.order[known])
        return cls(
            count=np.bincount(place, minlength=BINS).astype(np.float64),
            chance=np.bincount(place, trust.chance[known], BINS).astype(np.float64),
            **_judged(trust, grid, depth, judges),
        )

    def to_dict(self) -> dict[str, list[float]]:
        """Plain JSON values."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Evidence:
        """What `to_dict` gave."""
        names = ("count", "chance", "order", "error", "weight")
        return cls(**{name: np.asarray(stored[name], np.float64) for name in names})


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence by order, in a scene."""

    confidence: tuple[float, ...]
    """At the middle of each bin of the order, rising (BINS,)."""
    offset: float
    """What the judging points took away, in log odds; 0 or less."""
    points: int
    """Observations of judging points."""

    @classmethod
    def of(cls, views: Iterable[Evidence]) -> Calibration:
        """The curve of a scene of these views, in an order that stays the same."""
        views = list(views)
        count = np.sum([view.count for view in views], axis=0) if views else np.zeros(BINS)
        chance = np.sum([view.chance for view in views], axis=0) if views else np.zeros(BINS)
        curve = _monotone(count, chance)
        order, error, weight = (
            np.concatenate([getattr(view, name) for view in views]) if views else np.zeros(0)
            for name in ("order", "error", "weight")
        )
        stated = _interpolated(curve, order)
        offset = _offset(stated, error <= WITHIN, weight)
        final = (1 - TIE_BREAK) * _shifted(curve, offset) + TIE_BREAK * _middles()
        return cls(
            confidence=tuple(float(value) for value in np.round(final, 6)),
            offset=round(offset, 6),
            points=len(order),
        )

    def apply(self, order: Map) -> Map:
        """Confidence of an order, both (H, W); 0 where that is 0."""
        return self._applied(order, None)

    def grown(self, order: Map, grid: WorkGrid) -> Map:
        """Confidence (H, W; photo's grid) of an order (h, w) on the working `grid`. Applied after
        the order is grown, it leaves the order of the pixels as it is."""
        large = grid.grow(order.astype(np.float32, copy=False))
        return self._applied(large, large if grid.factor > 1 else None)

    def _applied(self, order: Map, out: Map | None) -> Map:
        curve = np.asarray(self.confidence)
        return by_strips(
            lambda part: np.where(part > 0, np.clip(_interpolated(curve, part), 0, 1), 0),
            order,
            out=out,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "confidence": list(self.confidence),
            "offset": self.offset,
            "points": self.points,
        }


def _judged(
    trust: Trust, grid: WorkGrid, depth: Map, points: SparseDepth | None
) -> dict[str, Array]:
    """Order, error and weight at the judging points whose depth is known."""
    if points is None:
        return {name: np.zeros(0) for name in ("order", "error", "weight")}
    column, row = points.xy.astype(np.int64).reshape(-1, 2).T
    found = depth[row, column].astype(np.float64)
    order = trust.order[grid.cells(points.xy)].astype(np.float64)
    good = (found > 0) & (order > 0)
    return {
        "order": order[good],
        "error": np.abs(found / points.depth - 1)[good],
        "weight": 1.0 / points.track_length[good],
    }


def _bins(order: NDArray[np.floating]) -> NDArray[np.int64]:
    return np.minimum((np.sqrt(order) * BINS).astype(np.int64), BINS - 1)


def _middles() -> Array:
    """Order at the middle of each bin (BINS,)."""
    return ((np.arange(BINS) + 0.5) / BINS) ** 2


def _interpolated(curve: Array, order: Array) -> Array:
    return np.interp(np.sqrt(order, dtype=np.float64) * BINS - 0.5, np.arange(BINS), curve)


def _monotone(count: Array, chance: Array) -> Array:
    """The rising curve (BINS,) nearest to the bins' mean chances; bins without pixels lie on the
    line between their neighbours."""
    filled = np.flatnonzero(count > 0)
    if not len(filled):
        return np.full(BINS, 0.5)
    rising = isotonic_regression(chance[filled] / count[filled], weights=count[filled]).x
    return np.interp(np.arange(BINS), filled, rising)


def _shifted(chance: Array, offset: float) -> Array:
    """Chances moved by an `offset` of their log odds."""
    factor = np.exp(offset)
    return chance * factor / (1 - chance + chance * factor)


def _offset(stated: Array, right: NDArray[np.bool_], weight: Array) -> float:
    """The most likely offset, 0 or less, of log odds that makes points `right` as often as stated.
    A normal distribution of `OFFSET_SPREAD` holds it back where there are few."""
    if not len(stated):
        return 0.0

    def cost(offset: float) -> float:
        seen = (1 - WRONG_POINTS) * _shifted(stated, offset)
        likely = np.where(right, np.log(np.maximum(seen, 1e-12)), np.log1p(-seen))
        return float((offset / OFFSET_SPREAD) ** 2 / 2 - (weight * likely).sum())

    found = minimize_scalar(cost, bounds=(-MOST_OFFSET, 0.0), method="bounded")
    best = float(found.x)
    return best if cost(best) < cost(0.0) and best < -1e-3 else 0.0
