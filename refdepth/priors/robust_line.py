"""A rising line through points with outliers, judged by log ratios.

|log((a x + b) / t)| is to first order the relative error of t, and the same for t and 1 / t, so
that depth and inverse depth are fitted alike. All is deterministic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_START_POINTS = 48
_JUDGING_POINTS = 600
"""Points, evenly spread over the prior's values, by which a start is chosen."""
_PRIOR_ERRORS = (0.01, 0.03, 0.1)
"""Relative errors that a prior may have; a start is judged by that which suits it."""
_TRUSTED, _FLOOR = 0.8 / np.sqrt(2 * np.pi), 0.2
"""Shares of points that are right, as a factor of the normal density, and that may be wrong."""
_STEPS = 30
_STEEPEST = 2.0
"""A slope is restored to at most this many times what the fit says: beyond, x says too little."""


def fit_line(x: Array, target: Array, weight: Array, *, metric: bool) -> tuple[float, float]:
    """(a, b) of t = a x + b with a > 0, for points (N,) with weights (N,), in the presence of
    outliers; b = 0 for `metric`. (0, 0) without points."""
    if len(x) == 0:
        return 0.0, 0.0
    if metric or len(x) < 2 or np.ptp(x) == 0:
        return _fit_slope(x, target, weight)
    a, b = improve_line(*_start(x, target, weight), x, target, weight)
    return _undiluted(a, b, x, target, weight)


def improve_line(a: float, b: float, x: Array, target: Array, weight: Array) -> tuple[float, float]:
    """(a, b) by iteratively reweighted Gauss-Newton steps on the log ratios, from a start."""
    error = log_error(a, b, x, target)
    for _ in range(_STEPS):
        robust = _faded(error, weight)
        t = np.maximum(a * x + b, 0.05 * target)
        root = np.sqrt(robust)
        jacobian = np.stack([x / t, 1 / t], axis=1) * root[:, None]
        step = np.linalg.lstsq(jacobian, root * np.log(target / t), rcond=None)[0]
        before = float(robust @ error**2)
        for shrink in (1.0, 0.5, 0.25, 0.0):
            trial_a, trial_b = a + shrink * step[0], b + shrink * step[1]
            trial = log_error(trial_a, trial_b, x, target)
            if trial_a > 0 and float(robust @ trial**2) <= before:
                break
        moved = float(np.max(np.abs(trial - error)))
        a, b, error = float(trial_a), float(trial_b), trial
        if moved < 1e-9:
            break
    return a, b


def _undiluted(a: float, b: float, x: Array, target: Array, weight: Array) -> tuple[float, float]:
    """The line (a, b) made steeper about its centre by as much as noise in x flattened it.

    Least squares takes x for exact, so where x is noisy the line is too flat (regression dilution)
    and what lies beyond the points comes out too near: an error that all views share and no
    averaging over views takes away. The slope of the other regression, of x on the target, is too
    steep by the same reasoning; their geometric mean (the reduced major axis) lies between.
    """
    robust = _faded(log_error(a, b, x, target), weight)
    relative = robust / target**2
    relative /= relative.sum()
    x_mean, t_mean = float(relative @ x), float(relative @ target)
    dx, dt = x - x_mean, target - t_mean
    joint, spread = float(relative @ (dx * dt)), float((relative @ dx**2) * (relative @ dt**2))
    if joint <= 0 or spread <= 0:
        return a, b
    steep = a * min(spread**0.5 / joint, _STEEPEST)
    level = t_mean - steep * x_mean
    believed = robust > 0.5 * weight
    if (steep * x[believed] + level <= 0).any():
        return a, b
    return steep, level


def _faded(error: Array, weight: Array) -> Array:
    """Cauchy weights at the scale of the errors: outliers fade, nothing is cut off sharply."""
    width = max(1.5 * weighted_median(error, weight), 1e-6)
    return weight / (1 + (error / width) ** 2)


def _fit_slope(x: Array, target: Array, weight: Array) -> tuple[float, float]:
    """One factor, the weighted median of ratios; where no x is positive, a constant level."""
    positive = x > 0
    if not positive.any():
        return 1e-9, float(np.exp(weighted_median(np.log(target), weight)))
    ratio = np.log(target[positive] / x[positive])
    return float(np.exp(weighted_median(ratio, weight[positive]))), 0.0


def _start(x: Array, target: Array, weight: Array) -> tuple[float, float]:
    """The best of the lines through pairs of points that are evenly spread over the prior's
    values: that under which these values are likeliest."""
    order = np.lexsort((target, x))
    chosen = order[np.unique(np.linspace(0, len(x) - 1, _START_POINTS).round().astype(int))]
    i, j = np.triu_indices(len(chosen), 1)
    i, j = chosen[i], chosen[j]
    run = x[j] - x[i]
    usable = run > 0.02 * np.ptp(x)
    a = (target[j] - target[i])[usable] / run[usable]
    b = target[i][usable] - a * x[i][usable]
    rising = a > 0
    a, b = a[rising], b[rising]
    if len(a) == 0:
        # Nothing rises: the prior contradicts the points. A nearly flat line is all there is.
        level = float(np.exp(weighted_median(np.log(target), weight)))
        slope = 1e-3 * level / float(np.ptp(x))
        return slope, level - slope * float(np.median(x))
    judging = order[np.unique(np.linspace(0, len(x) - 1, _JUDGING_POINTS).round().astype(int))]
    best = int(np.argmax(likelihood(a, b, x[judging], target[judging], weight[judging])))
    return float(a[best]), float(b[best])


def likelihood(a: Array, b: Array, x: Array, target: Array, weight: Array) -> Array:
    """Weighted log likelihood (L,) of the prior's values x under each line (L,), given the points'
    depth.

    It is the prior that is off, by a share of what it says, and not the points. Judged by how well
    the target comes out, a nearly flat line through the one surface that has most points would win,
    though to it the prior's values are noise. A share of the points may have any value of x.
    """
    spread = float(np.ptp(x))
    t = a[:, None] * x + b[:, None]
    error = np.log(np.maximum(t, 1e-3 * target) / target)
    per_x = np.where(t > 1e-3 * target, a[:, None] / np.maximum(t, 1e-3 * target), 0.0)
    found = [
        np.log(per_x * np.exp(-0.5 * (error / off) ** 2) / off * _TRUSTED + _FLOOR / spread)
        for off in _PRIOR_ERRORS
    ]
    return np.max([one @ weight for one in found], axis=0)


def log_error(a: Any, b: Any, x: Array, target: Array) -> Array:
    """|log((a x + b) / t)|: the relative depth error, whether t is depth or its inverse. Large but
    finite where the line is not positive."""
    t = np.maximum(a * x + b, 1e-3 * target)
    return np.abs(np.log(t / target))


def weighted_median(values: Array, weight: Array) -> float:
    """The value at half of the total weight."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
