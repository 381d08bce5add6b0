"""Bringing a reconstruction into the frame of its ground truth; what was done is always said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ICP_POINTS = 300_000
ROUGH_ICP_POINTS = 30_000
"""Points of the rounds before the last, which only bring the clouds close."""
ICP_ITERATIONS = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """A similarity, truth_from_scene, and how it was found."""

    method: str
    """`points` (SfM points on true depth), `poses` (camera centres) or `none`."""
    matrix: Array
    """truth_from_scene (4, 4): scale times rotation, and translation."""
    scale: float
    """Truth units per scene unit."""
    pairs: int
    """Correspondences it was fitted to."""
    residual: float
    """Median distance of all correspondences after alignment, truth units; NaN without any."""
    icp: tuple[dict[str, float], ...] = field(default=())
    """ICP rounds that followed: `distance`, `fitness`, `rmse`, `scale`; empty for none."""

    def apply(self, points: ArrayLike) -> Array:
        """Points (..., 3) in the truth's frame."""
        points = np.asarray(points, dtype=np.float64)
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def followed_by(self, step: Alignment) -> Alignment:
        """This alignment and then `step`, whose ICP rounds are added to the record."""
        matrix = step.matrix @ self.matrix
        return Alignment(
            method=self.method,
            matrix=matrix,
            scale=_scale_of(matrix),
            pairs=self.pairs,
            residual=self.residual,
            icp=(*self.icp, *step.icp),
        )

    def describe(self) -> str:
        """One sentence saying what was done."""
        if self.method == "none":
            text = "no alignment: the cloud is taken as it is"
        else:
            what = {"points": "SfM points on true depth", "poses": "camera centres"}[self.method]
            text = (
                f"Sim3 from {self.pairs} {what}, scale {self.scale:.5g}, "
                f"median residual {self.residual:.4g}"
            )
        if not self.icp:
            return f"{text}; no ICP"
        last = self.icp[-1]
        steps = ", ".join(f"{step['distance']:g}" for step in self.icp)
        return f"{text}; then ICP with scale within {steps} (rmse {last['rmse']:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "method": self.method,
            "scale": self.scale,
            "pairs": self.pairs,
            "residual": self.residual,
            "matrix": self.matrix.tolist(),
            "icp": [dict(step) for step in self.icp],
            "description": self.describe(),
        }


def no_alignment() -> Alignment:
    """The identity, said to be one."""
    return Alignment(method="none", matrix=np.eye(4), scale=1.0, pairs=0, residual=float("nan"))


def fit_sim3(source: ArrayLike, target: ArrayLike) -> Array:
    """Least-squares similarity target_from_source (4, 4) of paired points (N, 3) (Umeyama 1991).

    Raises `ValueError` with fewer than three pairs or when they lie on one line.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or len(source) < 3:
        raise ValueError(f"need at least three pairs of points, got {source.shape}, {target.shape}")
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    U, singular, Vt = np.linalg.svd(t.T @ s)
    if not singular[1] > 1e-9 * singular[0]:
        raise ValueError("the pairs lie on one line; the rotation is not determined")
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    rotation = (U * signs) @ Vt
    scale = float((singular * signs).sum() / (s**2).sum())
    out = np.eye(4)
    out[:3, :3] = scale * rotation
    out[:3, 3] = mean_t - scale * rotation @ mean_s
    return out


def robust_sim3(source: ArrayLike, target: ArrayLike, *, method: str, rounds: int = 8) -> Alignment:
    """Similarity of paired points (N, 3), fitted again `rounds` times to the pairs within three
    times the median distance.

    Raises `ValueError` like `fit_sim3`.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    keep = np.ones(len(source), bool)
    for _ in range(rounds):
        matrix = fit_sim3(source[keep], target[keep])
        moved = source @ matrix[:3, :3].T + matrix[:3, 3]
        distance = np.linalg.norm(moved - target, axis=1)
        closest = distance <= max(3 * float(np.median(distance)), 1e-12)
        if closest.sum() < 3:
            break
        keep = closest
    return Alignment(
        method=method,
        matrix=matrix,
        scale=_scale_of(matrix),
        pairs=len(source),
        residual=float(np.median(distance)),
    )


def icp(cloud: ArrayLike, truth: ArrayLike, distances: Sequence[float]) -> Alignment:
    """Point-to-point ICP with scale from `cloud` (N, 3) to `truth` (M, 3), both thinned, one round
    per matching distance.

    Of a large cloud an even selection of at most 300,000 points is matched, and of at most 30,000
    before the last round. A round that finds no three matches moves nothing.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(np.asarray(truth, np.float64))
    points = np.asarray(cloud, np.float64)
    matrix, steps = np.eye(4), []
    for number, distance in enumerate(distances, 1):
        most = ICP_POINTS if number == len(distances) else ROUGH_ICP_POINTS
        some = points[:: max(1, -(-len(points) // most))]
        step, fitness, rmse = _icp(some @ matrix[:3, :3].T + matrix[:3, 3], tree, distance)
        matrix = step @ matrix
        steps.append(
            {"distance": distance, "fitness": fitness, "rmse": rmse, "scale": _scale_of(step)}
        )
    return Alignment(
        method="none",
        matrix=matrix,
        scale=_scale_of(matrix),
        pairs=0,
        residual=float("nan"),
        icp=tuple(steps),
    )


def _scale_of(similarity: Array) -> float:
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def _icp(points: Array, tree: Any, distance: float) -> tuple[Array, float, float]:
    """The step (4, 4), share of points matched and rmse; stops when neither changes any more."""
    step, fitness, rmse = np.eye(4), 0.0, 0.0
    for _ in range(ICP_ITERATIONS + 1):
        moved = points @ step[:3, :3].T + step[:3, 3]
        gap, index = tree.query(moved, distance_upper_bound=distance, workers=-1)
        hit = np.isfinite(gap)
        if hit.sum() < 3:
            return step, 0.0, float("nan")
        before = fitness, rmse
        fitness, rmse = float(hit.mean()), float(np.sqrt((gap[hit] ** 2).mean()))
        if abs(fitness - before[0]) < 1e-6 and abs(rmse - before[1]) < 1e-6 * distance:
            break
        try:
            step = fit_sim3(points[hit], tree.data[index[hit]])
        except ValueError:
            break
    return step, fitness, rmse
