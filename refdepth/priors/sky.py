"""Where a prior says sky.

A network that gives inverse depth up to a shift does not say which of its values is infinity. A
line fitted to SfM points does, but most of these are near, and it may put the sky close behind
them. Networks give the sky one value, though, that of infinity or of the largest depth they know.
It may lie on what is no sky as well: then SfM points there say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.priors.observed import Observed
from refdepth.priors.robust_line import likelihood, weighted_median
from refdepth.types.prior import Prior, PriorKind

Array = NDArray[np.float64]

SURE_TRACK = 3
TAIL_POINTS, TAIL_SHARE = 5, 0.02
"""The farthest points: so many, or so large a share."""
LOWEST = 0.01
"""Where the sky's value is looked for, as a quantile of inverse depth."""
LEVEL = 0.02
"""How far values of the sky differ, as a share of the way to the farthest points."""
SHARE, MOST = 0.03, 0.5
"""Share of the picture, and of what is as far, that has the sky's value at least."""
LEAST_OTHERS = 24
"""So many points tell how far the sky's value is without those that lie on it."""
FARTHER = (2.0, 3.0, 5.0, 10.0, 100.0)
"""How many times as far as the points on it the sky may be."""
LIKELIER = 0.1
"""By how much likelier, as log likelihood a point, the others have to make one of these."""
BEYOND = 1.3
"""How many times as far as the farthest points the sky is put at least."""


def contradicting(prior: Prior, points: Observed) -> NDArray[np.bool_]:
    """Which points (N,) lie where a prior says sky and are right: others that it puts nearer are
    farther, or a line through the others and the sky far behind them suits these better than one
    through these points. There the prior is wrong, and a line fitted to them would have the sky
    where they are."""
    sign = 1 if prior.kind == PriorKind.INVERSE_AFFINE else -1
    near = sign * prior.values[np.isfinite(prior.values)].astype(np.float64)
    x, none = sign * points.x, np.zeros(len(points.x), bool)
    if not len(near) or not len(x):
        return none
    lowest = float(np.quantile(near, LOWEST))
    span = float(np.median(x)) - lowest
    on = x < lowest + LEVEL * span
    others = np.sort(points.depth[~on])[-max(TAIL_POINTS, round(TAIL_SHARE * len(x))) :]
    if not on.any() or len(others) < TAIL_POINTS or not _is_level(near, lowest, span, span / 3):
        return none
    surface = float(np.median(points.depth[on]))
    if surface < np.median(others):
        return on
    _, farther = _line_behind(prior.kind, sign * lowest, surface, points.where(~on))
    return on if farther else none


def sky_from(
    prior: Prior, line: tuple[float, float], points: Observed, far: float, factor: float
) -> float | None:
    """Depth of the `line` t = a x + b (see `fit`) from which a prior says sky; None where it does
    not say so.

    One value is taken for the sky where much of the picture has it, little else is as far, and it
    lies clearly behind the farthest points. From it inverse depth counts until that of these points
    divided by `factor`. Without points the farthest are where the bound `far` was counted from.
    """
    a, b = line
    if not (a > 0 and far > 0):
        return None
    inverse = _inverse_depth(prior.kind, a * prior.values.astype(np.float64) + b)
    at_points = _inverse_depth(prior.kind, a * points.x[_farthest(points)] + b)
    if not len(inverse) or (len(points.x) and not len(at_points)):
        return None
    farthest = float(np.median(at_points)) if len(at_points) else factor / far
    lowest = float(np.quantile(inverse, LOWEST))
    if farthest <= 0 or lowest > farthest / BEYOND:
        return None
    span = farthest - lowest
    bound = lowest + span / factor
    return 1 / bound if bound > 0 and _is_level(inverse, lowest, span, span / factor) else None


def line_to_sky(
    prior: Prior, points: Observed, contradicted: Observed
) -> tuple[float, float] | None:
    """The line through `points` that has the value of the sky far behind the `contradicted`; None
    where the points make it no likelier than one with the sky where these are."""
    sign = 1 if prior.kind == PriorKind.INVERSE_AFFINE else -1
    near = sign * prior.values[np.isfinite(prior.values)].astype(np.float64)
    level = sign * float(np.quantile(near, LOWEST))
    line, likelier = _line_behind(prior.kind, level, float(np.median(contradicted.depth)), points)
    return line if likelier else None


def _line_behind(
    kind: PriorKind, level: float, surface: float, others: Observed
) -> tuple[tuple[float, float], bool]:
    """The likeliest of the lines through the `others` that have the prior's value `level` far
    behind depth `surface`; and whether the others say of it rather that than there: under which of
    the lines the prior's values at them are likelier."""
    if len(others.x) < LEAST_OTHERS:
        return (0.0, 0.0), False
    depth = surface * np.array([1.0, *FARTHER])
    at = 1 / depth if kind == PriorKind.INVERSE_AFFINE else depth
    run = others.x - level
    run = np.where(run == 0, float(np.ptp(others.x)), run)
    slopes = (others.target - at[:, None]) / run
    a = np.array([weighted_median(slope, others.weight) for slope in slopes])
    a = np.maximum(a, 1e-9 * np.abs(at) / np.ptp(others.x))
    b = at - a * level
    found = likelihood(a, b, others.x, others.target, others.weight)
    best = 1 + int(np.argmax(found[1:]))
    likelier = found[best] > found[0] + LIKELIER * others.weight.sum()
    return (float(a[best]), float(b[best])), bool(likelier)


def _is_level(inverse: Array, lowest: float, span: float, far: float) -> bool:
    """Whether much of a picture, and most of what is within `far` of it, has the `lowest` value."""
    level = int(np.count_nonzero(inverse < lowest + LEVEL * span))
    return level > max(SHARE * len(inverse), MOST * int(np.count_nonzero(inverse < lowest + far)))


def _inverse_depth(kind: PriorKind, t: Array) -> Array:
    """Of a line's values, without those that mean nothing."""
    t = t[np.isfinite(t)]
    return t if kind == PriorKind.INVERSE_AFFINE else 1 / t[t > 0]


def _farthest(points: Observed) -> NDArray[np.int64]:
    """Indices of the farthest of the points that three views see, or of all where these are few."""
    sure = np.flatnonzero(points.track_length >= SURE_TRACK)
    among = sure if len(sure) >= TAIL_POINTS else np.arange(len(points.depth))
    count = max(TAIL_POINTS, round(TAIL_SHARE * len(among)))
    return among[np.argsort(-points.depth[among], kind="stable")[:count]]
