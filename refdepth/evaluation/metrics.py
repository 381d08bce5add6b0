"""Measures of depth maps, of confidence and of clouds, as the field defines them.

Depth: Eigen et al. 2014 (AbsRel, RMSE, log-RMSE, delta), robustmvd (inlier share at a ratio of
1.03, `rmvd`). Confidence: sparsification curve and AUSE, Ilg et al. 2018. Clouds: accuracy and
completeness as ETH3D (Schoeps et al. 2017) and Tanks and Temples (Knapitsch et al. 2017).

Shares of good pixels count a missing estimate as wrong. Errors are means over the pixels that have
an estimate, which is why `coverage` always stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

INLIER_RATIO = 1.03
DELTA = 1.25
DISTANCES_M = (0.01, 0.05, 0.10)
EDGE_RATIO = 1.1
EDGE_RADIUS_PX = 3


def known(depth: ArrayLike) -> Mask:
    """Where a depth is usable: finite and positive."""
    depth = np.asarray(depth)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(depth) & (depth > 0))


def ratio_error(estimate: ArrayLike, truth: ArrayLike) -> Array:
    """max(e / t, t / e), infinite where the estimate is missing."""
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    out = np.full(truth.shape, np.inf)
    ok = known(estimate)
    out[ok] = np.maximum(estimate[ok] / truth[ok], truth[ok] / estimate[ok])
    return out


def relative_error(estimate: ArrayLike, truth: ArrayLike) -> Array:
    """|e - t| / t, NaN where the estimate is missing."""
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    return np.where(known(estimate), np.abs(estimate - truth) / truth, np.nan)


def depth_errors(
    estimate: ArrayLike, truth: ArrayLike, *, in_metres: bool = False
) -> dict[str, float]:
    """All depth measures of estimates (N,) against true depths (N,), all true depths known, both in
    one unit.

    `pixels`, `coverage`; over pixels with an estimate: `abs_rel`, `median_rel` (of the relative
    error), `mae`, `rmse`, `log_rmse` (natural logarithm); shares of all pixels: `inlier_1.03`,
    `delta_1`, `delta_2`, `delta_3` (ratio below 1.25 to the power 1, 2, 3) and, only `in_metres`,
    `within_1cm`, `within_5cm`, `within_10cm`. A view without an estimate has NaN errors and zero
    shares; without truth all are NaN.
    """
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate is {estimate.shape}, truth {truth.shape}")
    if not known(truth).all():
        raise ValueError("every true depth must be finite and positive")
    ok = known(estimate)
    e, t = estimate[ok], truth[ok]
    count = truth.size
    ratio = ratio_error(estimate, truth)

    def share(good: Mask) -> float:
        return float(good.sum()) / count if count else float("nan")

    def mean(values: Array) -> float:
        return float(values.mean()) if values.size else float("nan")

    out = {
        "pixels": float(count),
        "coverage": share(ok),
        "abs_rel": mean(np.abs(e - t) / t),
        "median_rel": float(np.median(np.abs(e - t) / t)) if e.size else float("nan"),
        "mae": mean(np.abs(e - t)),
        "rmse": float(np.sqrt(mean((e - t) ** 2))),
        "log_rmse": float(np.sqrt(mean(np.log(e / t) ** 2))),
        "inlier_1.03": share(ratio < INLIER_RATIO),
    }
    for power in (1, 2, 3):
        out[f"delta_{power}"] = share(ratio < DELTA**power)
    if in_metres:
        miss = np.where(ok, np.abs(estimate - truth), np.inf)
        for distance in DISTANCES_M:
            out[f"within_{round(distance * 100)}cm"] = share(miss < distance)
    return out


def mean_over_views(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each measure over views; `pixels` is the sum. Views where a measure is NaN are left
    out of that measure's mean."""
    out: dict[str, float] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = np.array([row[key] for row in rows if key in row], np.float64)
        values = values[~np.isnan(values)]
        if key == "pixels":
            out[key] = float(values.sum())
        else:
            out[key] = float(values.mean()) if values.size else float("nan")
    return out


def edge_band(
    depth: NDArray[np.floating], *, ratio: float = EDGE_RATIO, radius_px: int = EDGE_RADIUS_PX
) -> Mask:
    """Pixels (height, width) within `radius_px` of a step in `depth` by more than `ratio` between
    two neighbours that are both known."""
    ok = known(depth)
    log = np.log(np.where(ok, depth, 1))
    step = np.zeros(depth.shape, bool)
    across = (np.abs(np.diff(log, axis=1)) > np.log(ratio)) & ok[:, 1:] & ok[:, :-1]
    down = (np.abs(np.diff(log, axis=0)) > np.log(ratio)) & ok[1:] & ok[:-1]
    step[:, 1:] |= across
    step[:, :-1] |= across
    step[1:] |= down
    step[:-1] |= down
    if radius_px < 1 or not step.any():
        return step
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~step) <= radius_px)


def changes(
    before: ArrayLike, after: ArrayLike, truth: ArrayLike, *, margin: float = 0.005
) -> dict[str, float]:
    """Shares of all pixels whose relative error fell (`better`) or rose (`worse`) by more than
    `margin`, and that were `gained` or `lost` (an estimate only after, only before)."""
    old, new = relative_error(before, truth), relative_error(after, truth)
    had, has = ~np.isnan(old), ~np.isnan(new)
    both = had & has
    shift = np.where(both, np.where(both, new, 0) - np.where(both, old, 0), 0)
    marks = {
        "better": shift < -margin,
        "worse": shift > margin,
        "gained": has & ~had,
        "lost": had & ~has,
    }
    count = old.size
    return {
        key: float(mark.sum()) / count if count else float("nan") for key, mark in marks.items()
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Sparsification:
    """How the mean error falls as the least trusted pixels are taken away."""

    kept: Array
    """Shares of pixels kept (S,), from 1 downwards."""
    by_confidence: Array
    """Mean error of the most confident pixels (S,)."""
    oracle: Array
    """Mean error of the truly best pixels (S,)."""
    random: float
    """Mean error of all pixels: what an order that knows nothing keeps."""

    @property
    def ause(self) -> float:
        """Area between the curve and the oracle (AUSE), in units of the error."""
        return float(np.mean(self.by_confidence - self.oracle))

    @property
    def ause_random(self) -> float:
        """The same area for an order that knows nothing."""
        return float(np.mean(self.random - self.oracle))

    def gain_of_dropping(self, share: float) -> float:
        """Relative fall of the mean error when the least confident `share` is dropped."""
        left = float(np.interp(1 - share, self.kept[::-1], self.by_confidence[::-1]))
        return 1 - left / self.random if self.random > 0 else 0.0


def sparsification(error: ArrayLike, confidence: ArrayLike, *, steps: int = 50) -> Sparsification:
    """Sparsification curve of errors (N,) under confidences (N,), at `steps` shares kept from 1
    down to 1 / steps (Ilg et al. 2018).

    Pixels of equal confidence are taken in no order: each counts with the mean error of its group.
    Raises `ValueError` when nothing is given or a value is no number.
    """
    error, confidence = np.asarray(error, np.float64), np.asarray(confidence, np.float64)
    if error.ndim != 1 or error.shape != confidence.shape or not error.size:
        raise ValueError(
            f"need as many errors as confidences, got {error.shape}, {confidence.shape}"
        )
    if not (np.isfinite(error).all() and np.isfinite(confidence).all()):
        raise ValueError("errors and confidences must be finite")
    _, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    group_mean = np.bincount(group, weights=error) / size
    ordered = np.repeat(group_mean, size)
    kept = 1 - np.arange(steps) / steps
    count = np.maximum(np.rint(kept * error.size).astype(int), 1)
    return Sparsification(
        kept=kept,
        by_confidence=np.cumsum(ordered)[count - 1] / count,
        oracle=np.cumsum(np.sort(error))[count - 1] / count,
        random=float(error.mean()),
    )


def thin(points: ArrayLike, voxel: float) -> Array:
    """Means of the points (N, 3) in each cubic voxel (M, 3), ordered by voxel.

    Voxels start at the origin, so that thinning again changes nothing.
    """
    points = np.asarray(points, np.float64)
    if not len(points):
        return points.reshape(0, 3)
    order, start, count = _by_voxel(points, voxel)
    return np.asarray(np.add.reduceat(points[order], start) / count[:, None])


def nearest_distances(points: ArrayLike, others: ArrayLike, within: float = np.inf) -> Array:
    """Distance (N,) of each point to the nearest of `others` (M, 3); infinite where there is none
    nearer than `within`."""
    from scipy.spatial import cKDTree

    points, others = np.asarray(points, np.float64), np.asarray(others, np.float64)
    if not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(others).query(points, distance_upper_bound=within, workers=-1)[0])


def f_score(precision: float, recall: float) -> float:
    """Harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def cloud_scores(
    cloud: ArrayLike,
    truth: ArrayLike,
    *,
    distances: Sequence[float],
    spacing: float,
    crop: float | None = None,
) -> dict[str, float]:
    """Precision, recall and F of a cloud (N, 3) against a true one (M, 3), aligned, in one unit.

    Both are thinned to voxels of `spacing` first, so that density neither helps nor hurts. With
    `crop`, cloud points further than that from the truth are left out of precision (the truth does
    not reach everywhere) and counted in `far_share`. Keys: `precision_D`, `recall_D`, `f_D`,
    and `eth3d_accuracy_D`, `eth3d_completeness_D`, means over voxels of size D of the shares of
    points within D, as ETH3D weights them; `points`, `thinned`.
    """
    cloud, truth = np.asarray(cloud, np.float64), np.asarray(truth, np.float64)
    thinned, true = thin(cloud, spacing), thin(truth, spacing)
    farthest = max(distances)
    to_truth = nearest_distances(thinned, true, farthest if crop is None else max(crop, farthest))
    to_cloud = nearest_distances(true, thinned, farthest)
    near = np.ones(len(thinned), bool) if crop is None else to_truth < crop
    out = {
        "points": float(len(cloud)),
        "thinned": float(len(thinned)),
        "far_share": float(1 - near.mean()) if len(thinned) else float("nan"),
    }
    for d in distances:
        precision = float((to_truth[near] < d).mean()) if near.any() else 0.0
        recall = float((to_cloud < d).mean()) if len(true) else float("nan")
        out[f"precision_{d:g}"], out[f"recall_{d:g}"] = precision, recall
        out[f"f_{d:g}"] = f_score(precision, recall)
        out[f"eth3d_accuracy_{d:g}"] = _voxel_mean(thinned[near], to_truth[near] < d, d)
        out[f"eth3d_completeness_{d:g}"] = _voxel_mean(true, to_cloud < d, d)
    return out


def tanks_and_temples_f(cloud: ArrayLike, truth: ArrayLike, distance: float) -> dict[str, float]:
    """Precision, recall and F at one distance with both clouds thinned to half of it, as the
    Tanks and Temples protocol does."""
    scores = cloud_scores(cloud, truth, distances=(distance,), spacing=distance / 2)
    return {name: scores[f"{name}_{distance:g}"] for name in ("precision", "recall", "f")}


def _voxel_mean(points: Array, good: Mask, voxel: float) -> float:
    """Mean over occupied voxels of the share of good points in each."""
    if not len(points):
        return 0.0
    order, start, count = _by_voxel(points, voxel)
    return float((np.add.reduceat(good[order].astype(np.float64), start) / count).mean())


def _by_voxel(points: Array, voxel: float) -> tuple[NDArray[np.intp], ...]:
    """The order (N,) that brings the points (N, 3) of each voxel together, and start and number of
    points (M,) of each voxel in it."""
    cell = np.floor(points / voxel).astype(np.int64)
    cell -= cell.min(axis=0)
    size = [int(n) + 1 for n in cell.max(axis=0)]
    if math.prod(size) > np.iinfo(np.int64).max:
        order = np.lexsort(cell.T[::-1])
        changes = (np.diff(cell[order], axis=0) != 0).any(axis=1)
    else:
        key = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
        order = np.argsort(key, kind="stable")
        changes = np.diff(key[order]) != 0
    start = np.flatnonzero(np.r_[True, changes])
    return order, start, np.diff(np.r_[start, len(points)])
