"""Fits of views without enough SfM points of their own: what the others of the scene agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refdepth.priors.robust_line import improve_line, log_error, weighted_median
from refdepth.priors.scale_fit import ScaleFit, ScaleFlag
from refdepth.types.prior import PriorKind

Array = NDArray[np.float64]

_BORROWED_SHARE = 0.1
"""Weight of a borrowed fit against all of a weak view's own points."""


def borrowed_fit(fits: Sequence[ScaleFit]) -> ScaleFit | None:
    """What a view without points of its own may assume: the typical fit of the others.

    None where no fit is sound. Networks that keep one scale from photo to photo give similar a
    and b; maps normalised photo by photo do not, but put the picture's median at a similar depth.
    Whichever holds better for these fits is used: `prior_spread` is 0 in the first case.
    """
    sound = [fit for fit in fits if not fit.weak and ScaleFlag.POOR_FIT not in fit.flags]
    if not sound:
        return None
    near = float(np.median([fit.near for fit in sound]))
    far = float(np.median([fit.far for fit in sound]))
    plain = np.array([(fit.a, fit.b) for fit in sound])
    normal = np.array(
        [(fit.a * fit.prior_spread, fit.a * fit.prior_center + fit.b) for fit in sound]
    )
    typical = ScaleFit(kind=sound[0].kind, a=0.0, b=0.0, near=near, far=far)
    absolute = replace(typical, a=float(np.median(plain[:, 0])), b=float(np.median(plain[:, 1])))
    relative = replace(
        typical,
        a=float(np.median(normal[:, 0])),
        b=float(np.median(normal[:, 1])),
        prior_spread=1.0,
    )
    if sound[0].kind == PriorKind.METRIC or _misses(absolute, sound) <= _misses(relative, sound):
        return absolute
    return relative


def _misses(candidate: ScaleFit, fits: Sequence[ScaleFit]) -> float:
    """Median log ratio between what the fits and the candidate say at three values of the prior."""
    errors = []
    for fit in fits:
        a, b = _denormalised(candidate, fit.prior_center, fit.prior_spread)
        x = fit.prior_center + fit.prior_spread * np.array([-1.0, 0.0, 1.0])
        errors.append(log_error(a, b, x, np.maximum(fit.a * x + fit.b, 1e-12)))
    return float(np.median(errors))


def _denormalised(fallback: ScaleFit, center: float, spread: float) -> tuple[float, float]:
    """(a, b) of a borrowed fit for a prior of this median and spread."""
    if fallback.prior_spread == 0 or spread == 0:
        return fallback.a, fallback.b
    a = fallback.a / spread
    return a, fallback.b - a * center


def borrowed_line(
    fallback: ScaleFit, center: float, spread: float, x: Array, target: Array, weight: Array
) -> tuple[float, float]:
    """The fallback's line, moved to the scale of the view's own points where it has three or more
    and then fitted to them, with some weight on staying where the fallback is over the picture."""
    a, b = _denormalised(fallback, center, spread)
    t = a * x + b
    good = t > 0
    if good.sum() < 3:
        return a, b
    scale = float(np.exp(weighted_median(np.log(target[good] / t[good]), weight[good])))
    a, b = a * scale, b * scale
    if fallback.kind == PriorKind.METRIC:
        return a, b
    held = center + spread * np.array([-1.0, 0.0, 1.0])
    held = held[a * held + b > 0]
    share = _BORROWED_SHARE * weight.sum() / max(len(held), 1)
    return improve_line(
        a,
        b,
        np.concatenate([x, held]),
        np.concatenate([target, a * held + b]),
        np.concatenate([weight, np.full(len(held), share)]),
    )
