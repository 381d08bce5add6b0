"""The scale from printed tags of known size: their corners triangulated over the views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.evaluation.alignment import fit_sim3
from refdepth.metric.distances import DEPTH_ERROR, LENGTH_ERROR
from refdepth.metric.estimate import Estimate, Measurement, Source, joined
from refdepth.metric.tags import Sighting
from refdepth.types.camera import transform
from refdepth.types.scene import Scene, View

Array = NDArray[np.float64]
PointsAt = Callable[[str, Array], Array]
"""World points (N, 3) that a view (by name) shows at its pixels (N, 2) by its depth; NaN where that
is unknown."""

_SQUARE = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
_AGREES_PX = 3.0
"""Reprojection error up to which a view agrees on where a tag is."""
_LEAST_NOISE_PX = 0.15
"""Of a corner; few views can agree better by chance."""
_ROUNDS = 5
"""Of belief and triangulation in turn, by which a corner that is hidden in a view fades."""
_MOST_TRIED = 16
"""Views of a tag that are tried in pairs."""
_NOT_SQUARE = 0.05
"""Deviation of corners from a square, in sides, from which they are no tag's."""
_TOO_UNSURE = 0.05


def scale_from_tags(
    scene: Scene, sightings: Sequence[Sighting], size_m: float, points_at: PointsAt
) -> Estimate:
    """Triangulates each tag over the views that agree on it and averages the scales.

    `sightings` have undistorted pixels, of views of the scene. `size_m` is the side of the black
    square. A tag in one view only is used where `points_at` knows its corners, else said to be
    left out. Raises `InputError` when nothing is left.
    """
    by_tag: dict[int, list[Sighting]] = {}
    for sighting in sightings:
        by_tag.setdefault(sighting.tag, []).append(sighting)
    if not by_tag:
        raise InputError(
            "no tag was found in any placed photo.",
            subject="--tag-size",
            action="Check --tag-family, and that tags are 20 pixels wide at least with a white"
            " margin.",
        )
    found, notes = [], []
    for tag, seen in sorted(by_tag.items()):
        measured = _measured(scene, tag, seen, size_m, points_at)
        if isinstance(measured, Measurement):
            found.append(measured)
        else:
            notes.append(measured)
    if not found:
        raise InputError(
            f"no tag can be used: {'; '.join(notes)}.",
            subject="--tag-size",
            action="Take photos so that each tag is in two at least, from different places.",
        )
    return joined(Source.TAGS, found, notes)


def _measured(
    scene: Scene, tag: int, seen: Sequence[Sighting], size_m: float, points_at: PointsAt
) -> Measurement | str:
    """The scale by one tag, or why it gives none."""
    if len(seen) == 1:
        corners = points_at(seen[0].view, seen[0].corners)
        if not np.isfinite(corners).all():
            return f"tag {tag} is in one photo only, which has no depth at its corners"
        covariances = np.zeros((4, 3, 3))
        extra, what = 2 * DEPTH_ERROR, f"tag {tag}, in one photo, by its depth"
    else:
        views = {s.view: (scene[s.view], s.corners) for s in seen}
        agreed = _triangulated(views)
        if agreed is None:
            return f"tag {tag} is in {len(seen)} photos that do not agree on where it is"
        corners, covariances, count = agreed
        extra, what = 0.0, f"tag {tag}, in {count} photos"
    square = fit_sim3(_SQUARE, corners)
    side = float(np.cbrt(np.linalg.det(square[:3, :3])))
    off = corners - transform(square, _SQUARE)
    if float(np.sqrt((off**2).sum(axis=1).mean())) > _NOT_SQUARE * side:
        return f"the corners of tag {tag} are no square"
    arms = _SQUARE @ (square[:3, :3] / side).T
    variance = np.einsum("ni,nij,nj->", arms, covariances, arms) / float((_SQUARE**2).sum()) ** 2
    error = float(np.linalg.norm([variance**0.5 / side, LENGTH_ERROR, extra]))
    if error > _TOO_UNSURE:
        return f"tag {tag} is seen too far away, or from too much the same place"
    return Measurement(what=what, metres_per_unit=size_m / side, relative_error=error)


def _triangulated(
    views: Mapping[str, tuple[View, Array]],
) -> tuple[Array, Array, int] | None:
    """Corners (4, 3), their covariances (4, 3, 3) and the number of views that agree on them; None
    where no two do.

    Of every two views that triangulate the corners those win with which most others agree (RANSAC
    over all pairs of few).
    """
    every = list(views.values())
    some = every[:: max(1, -(-len(every) // _MOST_TRIED))]
    best: tuple[int, float, list[tuple[View, Array]]] | None = None
    for pair in combinations(some, 2):
        errors = _errors(every, _corners(pair)[0]).max(axis=1)
        agreeing = errors <= _AGREES_PX
        score = int(agreeing.sum()), -float(errors[agreeing].sum())
        if score[0] >= 2 and (best is None or score > best[:2]):
            best = *score, [v for v, ok in zip(every, agreeing, strict=True) if ok]
    if best is None:
        return None
    agreed = best[2]
    believed = np.ones((len(agreed), 4))
    for _ in range(_ROUNDS):
        corners, information = _corners(agreed, believed)
        errors = _errors(agreed, corners)
        noise = max(1.5 * float(np.median(errors)), _LEAST_NOISE_PX)
        believed = 1 / (1 + (errors / (2 * noise)) ** 2)
    # Each corner in a view gives two numbers; a corner in the world takes three.
    left = 2 * believed.sum() - 12
    spread = float((believed * errors**2).sum()) / max(left, 1.0)
    noise = max(spread**0.5, _LEAST_NOISE_PX)
    return corners, noise**2 * np.linalg.pinv(information), len(agreed)


def _corners(
    views: Sequence[tuple[View, Array]], believed: Array | float = 1.0
) -> tuple[Array, Array]:
    """Points (4, 3) nearest to the rays of all views, weighted by how many pixels a unit is there
    and by how much a ray is `believed` (V, 4), and the information (4, 3, 3), in pixels, that the
    rays have of them."""
    centers = np.array([view.center for view, _ in views])[:, None]
    rays = np.array([view.camera.rays(xy) @ view.cam_from_world[:3, :3] for view, xy in views])
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    focal = np.array([view.camera.mean_focal_px for view, _ in views])[:, None]
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
    weight = np.broadcast_to(believed, rays.shape[:2])
    for _ in range(4):
        information = (weight[..., None, None] * across).sum(axis=0)
        pulled = (weight[..., None] * (across @ centers[..., None])[..., 0]).sum(axis=0)
        firm = 1e-12 * np.trace(information, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        points = np.linalg.solve(information + firm, pulled[..., None])[..., 0]
        far = np.maximum(np.linalg.norm(points - centers, axis=-1), 1e-9)
        weight = believed * (focal / far) ** 2
    return points, (weight[..., None, None] * across).sum(axis=0)


def _errors(views: Sequence[tuple[View, Array]], corners: Array) -> Array:
    """Reprojection errors of a tag's corners (V, 4) in each view, pixels; infinite behind a
    camera."""
    found = [view.camera.project(transform(view.cam_from_world, corners))[0] for view, _ in views]
    error = np.linalg.norm(np.array(found) - np.array([xy for _, xy in views]), axis=-1)
    return np.where(np.isfinite(error), error, np.inf)
