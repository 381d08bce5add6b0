"""Fitting a prior to the SfM points of its view: robust, deterministic, with diagnostics.

With t = 1 / z for inverse-affine priors and t = z otherwise, the model is t = a x + b with a > 0
(b = 0 for metric priors), fitted on relative depth errors (see `robust_line`), times a factor that
varies slowly over the picture where left-out points show that it helps (see `bend`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import StageError
from refdepth.geometry.grid import strips
from refdepth.priors.bend import fit_bend
from refdepth.priors.borrowing import borrowed_fit, borrowed_line
from refdepth.priors.observed import CELLS, observe
from refdepth.priors.resolution import in_photo
from refdepth.priors.robust_line import fit_line, log_error
from refdepth.priors.scale_fit import WEAK, ScaleFit, ScaleFlag
from refdepth.priors.sky import contradicting, line_to_sky, sky_from
from refdepth.settings import Settings, setting
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import SparseDepth

Array = NDArray[np.float64]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95)
_LEFT_OUT_QUANTILES = (0.5, 0.75, 0.9)
_SAMPLES = 300
_OPPOSED, _RELATED = -0.3, 0.2
"""Rank correlation of prior and points below which they are opposed; from which on related."""


class ScaleSettings(Settings):
    """How priors are fitted to the SfM points."""

    min_points: int = setting(
        12, "A view with fewer usable SfM points borrows the scene's fit.", ge=2, le=10_000
    )
    min_coverage: float = setting(
        0.08, "A view whose points lie in a smaller share of the picture borrows.", ge=0, le=1
    )
    inlier_error: float = setting(
        0.1, "A point whose relative depth error is larger is an outlier.", gt=0, le=1
    )
    poor_fit: float = setting(
        0.15, "A fit whose median relative depth error is larger is flagged.", gt=0, le=1
    )
    far_factor: float = setting(
        3.0, "Depth beyond this many times the farthest SfM points is sky.", ge=1, le=1000
    )
    near_factor: float = setting(
        5.0, "Depth nearer than the nearest SfM points by this factor is unknown.", ge=1, le=1000
    )
    bend_from: float = setting(
        0.2,
        "A prior is bent over the picture towards the SfM points, where left-out ones gain by it,"
        " if a quarter of them is further off in log depth than this.",
        ge=0,
    )


def fit_scale(
    prior: Prior,
    sparse: SparseDepth,
    settings: ScaleSettings | None = None,
    *,
    fallback: ScaleFit | None = None,
) -> ScaleFit:
    """Fits a view's prior (H, W) to the SfM points it sees.

    A view with too few or badly spread points is flagged; given the scene's `fallback` (see
    `borrowed_fit`) it keeps near the fallback's shape, and takes its scale too where it has no
    points.
    Deterministic; never raises for poor data.
    """
    settings = settings or ScaleSettings()
    center, spread = _statistics(prior.values)
    points = observe(prior, sparse)
    wrong = contradicting(prior, points)
    contradicted, points = points.where(wrong), points.where(~wrong)
    x, target, weight = points.x, points.target, points.weight
    flags: list[ScaleFlag] = []
    if len(x) == 0:
        flags.append(ScaleFlag.NO_POINTS)
    elif len(x) < settings.min_points:
        flags.append(ScaleFlag.FEW_POINTS)
    a, b = fit_line(x, target, weight, metric=prior.kind == PriorKind.METRIC)
    if wrong.any() and sky_from(prior, (a, b), points, 1.0, settings.far_factor) is None:
        a, b = line_to_sky(prior, points, contradicted) or (a, b)
    error = log_error(a, b, x, target)
    inlier = error <= settings.inlier_error
    coverage = len(np.unique(points.cell[inlier])) / CELLS**2
    if len(x) and coverage < settings.min_coverage:
        flags.append(ScaleFlag.BADLY_SPREAD)
    near, far = _bounds(points.depth[inlier] if inlier.any() else points.depth, settings)

    if flags and fallback is not None and fallback.kind == prior.kind:
        a, b = borrowed_line(fallback, center, spread, x, target, weight)
        error = log_error(a, b, x, target)
        inlier = error <= settings.inlier_error
        near = min(near, fallback.near) if len(x) else fallback.near
        far = max(far, fallback.far)
        flags.append(ScaleFlag.BORROWED)
    if len(x) and float(np.median(error)) > settings.poor_fit:
        flags.append(ScaleFlag.POOR_FIT)
    if len(x) >= settings.min_points:
        flags += _disagreement(x, target, settings)
    good = a * x + b > 0
    ratio = _log_depth_ratio(prior.kind, a * x[good] + b, target[good])
    bend, before, after = None, ratio, ratio
    far_off = len(ratio) > 0 and float(np.quantile(np.abs(ratio), 0.75)) > settings.bend_from
    if far_off and not WEAK.intersection(flags):
        bend, before, after = fit_bend(points.xy[good], ratio, weight[good], prior.covers)
    return ScaleFit(
        kind=prior.kind,
        a=a,
        b=b,
        near=near,
        far=far,
        sky_from=sky_from(prior, (a, b), points, far, settings.far_factor),
        points=len(x),
        inliers=int(inlier.sum()),
        residual_quantiles=_quantiles(error, _QUANTILES),
        coverage=coverage,
        prior_center=center,
        prior_spread=spread,
        bend=bend,
        left_out_before=_quantiles(np.abs(before), _LEFT_OUT_QUANTILES),
        left_out_quantiles=_quantiles(np.abs(after), _LEFT_OUT_QUANTILES),
        samples=_scatter(x, points.depth, inlier),
        flags=tuple(flags),
    )


def apply_fit(
    prior: Prior, fit: ScaleFit, shape: tuple[int, int] | None = None, *, sky: float = 0.0
) -> NDArray[np.float32]:
    """Depth in SfM units in the grid of a photo of `shape` (H, W), without it in the prior's own;
    0 where the prior says nothing or is nearer than the fit's bound, `sky` where it is beyond.

    Refinement wants the sky infinite: it is no depth, but a side of edges.
    """
    if shape is not None:
        prior = in_photo(prior, shape)
    out = np.zeros(prior.values.shape, np.float32)
    if fit.a <= 0:
        return out
    factor = None if fit.bend is None else fit.bend.factor(out.shape)
    for rows in strips(len(out)):
        t = fit.a * prior.values[rows].astype(np.float64) + fit.b
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = 1 / t if fit.kind == PriorKind.INVERSE_AFFINE else t
            beyond = t <= 0 if fit.kind == PriorKind.INVERSE_AFFINE else np.zeros(t.shape, bool)
            if fit.sky_from is not None:
                beyond |= depth > fit.sky_from
            if factor is not None:
                depth *= factor[rows]
            beyond |= depth > fit.far
            known = (t > 0) & (depth >= fit.near) & ~beyond
        out[rows] = np.where(known, depth, np.where(beyond, sky, 0))
    return out


def fit_scene(
    priors: Mapping[str, Prior],
    points: Mapping[str, SparseDepth],
    settings: ScaleSettings | None = None,
) -> dict[str, ScaleFit]:
    """The fits of all views by name, of which weak ones borrow what the others found."""
    fits = {name: fit_scale(priors[name], points[name], settings) for name in priors}
    fallback = borrowed_fit(list(fits.values()))
    if fallback is not None:
        for name in [name for name, fit in fits.items() if fit.weak]:
            fits[name] = fit_scale(priors[name], points[name], settings, fallback=fallback)
    return fits


def check_fitted(fits: Iterable[ScaleFit], subject: str | None = None) -> None:
    """Raises `StageError` where no view of a scene has points enough. Where those of all views lie
    in a small part of the picture, as on one thing in the middle, that is what there is."""
    if all(fit.too_few for fit in fits):
        raise StageError(
            "no view has enough SfM points to fit its depth to.",
            subject=subject,
            action="Give more photos with more overlap and texture, or another depth model.",
        )


def _quantiles(error: Array, at: Sequence[float]) -> dict[str, float]:
    """Quantiles of the errors under their names; none without errors."""
    if len(error) == 0:
        return {}
    values = np.quantile(error, at)
    return {f"{q:g}": float(value) for q, value in zip(at, values, strict=True)}


def _scatter(
    x: Array, depth: Array, inlier: NDArray[np.bool_]
) -> tuple[tuple[float, float, bool], ...]:
    """At most `_SAMPLES` points, evenly taken in order of the prior."""
    order = np.argsort(x, kind="stable")
    shown = order[np.linspace(0, len(x) - 1, min(len(x), _SAMPLES)).astype(int)]
    return tuple((float(x[i]), float(depth[i]), bool(inlier[i])) for i in shown)


def _log_depth_ratio(kind: PriorKind, t: Array, target: Array) -> Array:
    """Log of the points' depth over the line's."""
    ratio = np.log(target / t)
    return -ratio if kind == PriorKind.INVERSE_AFFINE else ratio


def _bounds(z: Array, settings: ScaleSettings) -> tuple[float, float]:
    """(near, far) depth that is believed; (0, 0) without points."""
    if len(z) == 0:
        return 0.0, 0.0
    low, high = np.quantile(z, [0.01, 0.99])
    return float(low / settings.near_factor), float(high * settings.far_factor)


def _statistics(values: NDArray[np.float32]) -> tuple[float, float]:
    """Median and half the 10 % to 90 % distance of the known values."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 0.0
    low, middle, high = np.quantile(known.astype(np.float64), [0.1, 0.5, 0.9])
    return float(middle), float(high - low) / 2


def _disagreement(x: Array, target: Array, settings: ScaleSettings) -> list[ScaleFlag]:
    """Whether the prior runs against the points, or has nothing to do with them although their
    depth differs."""
    correlation = _rank_correlation(x, target) if np.ptp(x) > 0 else 0.0
    if correlation < _OPPOSED:
        return [ScaleFlag.OPPOSED]
    log = np.log(target)
    spread = 1.48 * float(np.median(np.abs(log - np.median(log))))
    if correlation < _RELATED and spread > settings.inlier_error:
        return [ScaleFlag.UNRELATED]
    return []


def _rank_correlation(x: Array, y: Array) -> float:
    """Spearman's correlation (ties broken by order)."""
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable") for v in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
