"""Which neighbours a view is compared with: by sweep, refinement and fusion."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import transform
from refdepth.types.scene import Scene, View

BEST_ANGLE_DEG = 6.0
"""Triangulation angle that scores highest: wide enough to place a point, narrow enough to match."""
NARROW_DEG = 3.0
"""Spread of the score below the best angle."""
WIDE_DEG = 12.0
"""Spread of the score above the best angle."""
ENOUGH_POINTS = 30
"""With fewer observed points than this, geometry alone decides."""
NEAREST = 64
"""Closest cameras that are candidates even where they observe no point of a view."""
_SAME_PLACE = 1e-6
"""Baseline over depth under which two views stand at the same place: a ten thousandth of a pixel of
parallax, but more than rounding leaves between the faces of a panorama."""
ANCHOR_GRID = 8, 6
"""Columns and rows of the points on which a view with few points is scored."""
ONLOOKER_GRID = 8, 8
"""Columns and rows of a picture's points by which it is judged who else sees them."""
LEAST_SEEN = 1 / 32
"""Share of a picture of which a view that sees less has next to nothing to say."""
UNSEEN_WEIGHT = 0.1
"""Weight of a point that only falls into a candidate's picture; it may be hidden there."""


def select_sources(scene: Scene, view: View, count: int) -> tuple[str, ...]:
    """Names of at most `count` views to compare `view` with, best first.

    A candidate scores each point that `view` sees by the triangulation angle it adds (the shape of
    the score as in MVSNet, Yao et al. 2018, section 4.1), in full where it observes the point
    itself and a little where the point only falls into its picture. A view with few points is
    scored on points spread over its picture at the depth of the scene. Candidates that share
    nothing are left out. Deterministic; ties are broken by name.

    Candidates are the views that observe a point of `view`, and the `NEAREST` closest cameras; they
    are scored until no other can be among the best.
    """
    if count < 1:
        return ()
    center = view.center
    anchors, index = _anchors(scene, view)
    most = _most_possible(scene, view, anchors, index)
    observed = np.zeros(len(scene.points.xyz) + 1, dtype=np.bool_)  # the last is what -1 finds
    scores: list[tuple[float, str]] = []
    for row in np.argsort(-most, kind="stable"):
        if most[row] <= 0 or (len(scores) >= count and most[row] < -scores[count - 1][0]):
            break
        other = scene.views[row]
        pixels, _ = other.camera.project(transform(other.cam_from_world, anchors))
        weight = np.where(other.camera.contains(pixels), UNSEEN_WEIGHT, 0.0)
        observed[other.point_index] = True
        weight[observed[index]] = 1.0
        observed[other.point_index] = False
        score = float(weight @ _angle_score(anchors, center, scene.centers[row]))
        if score > 1e-6 * len(anchors):
            insort(scores, (-score, other.name))
    return tuple(name for _, name in scores[:count])


def closest_views(
    scene: Scene, view: View, count: int, besides: Collection[str]
) -> tuple[str, ...]:
    """Names of at most `count` views closest to `view`, but for those of `besides` and those at the
    same place, closest first. What lies nearer than the points is seen well only over a short
    baseline."""
    same = set(rows_at_place(scene, view).tolist())
    within = _nearest(scene, view, count + len(besides) + len(same))
    others = sorted(
        (float(np.linalg.norm(other.center - view.center)), other.name)
        for other in (scene.views[row] for row in within if row not in same)
        if other.name != view.name and other.name not in besides
    )
    return tuple(name for _, name in others[:count])


def onlookers(
    scene: Scene, view: View, sources: Iterable[str], besides: Collection[str], count: int
) -> tuple[str, ...]:
    """Names of at most `count` views that were taken where `view` or one of its `sources` was and
    look at what it looks at, but for those sources and for all taken where one of `besides` was:
    the other faces of its panoramas. Those that see most of its picture come first.

    None where no two views share a place. What they see of the picture is judged at the depth of
    the scene: where a surface is plain, no SfM point tells.
    """
    if count < 1:
        return ()
    used = tuple(sources)
    reach = _SAME_PLACE * _typical_depth(scene, view)

    def places(names: Iterable[str]) -> set[int]:
        centers = [scene[name].center for name in names]
        found = scene.camera_tree.query_ball_point(centers, reach) if centers else []
        return {int(row) for rows in found for row in rows}

    away = places(besides) | {scene.row(name) for name in (view.name, *used)}
    rows = places((view.name, *used)) - away
    if not rows:
        return ()
    seen = _spread_points(scene, view, ONLOOKER_GRID)
    shares = []
    for other in (scene.views[row] for row in rows):
        pixels, _ = other.camera.project(transform(other.cam_from_world, seen))
        shares.append((float(other.camera.contains(pixels).mean()), other.name))
    ranked = sorted((-share, name) for share, name in shares if share >= LEAST_SEEN)
    return tuple(name for _, name in ranked[:count])


def _nearest(scene: Scene, view: View, count: int) -> NDArray[np.int64]:
    """Rows of the `count` views whose cameras are closest to that of `view`, of `view` itself, and
    of any more that are as close as the last."""
    if count < 1 or not len(scene):
        return np.zeros(0, np.int64)
    distance, _ = scene.camera_tree.query(view.center, k=[min(count + 1, len(scene))])
    reach = float(distance[-1]) * (1 + 1e-9)
    return np.array(sorted(scene.camera_tree.query_ball_point(view.center, reach)), np.int64)


def rows_at_place(scene: Scene, view: View) -> NDArray[np.int64]:
    """Rows of the views whose centre is that of `view`, its own among them: faces of one
    panorama."""
    if not len(scene):
        return np.zeros(0, np.int64)
    reach = _SAME_PLACE * _typical_depth(scene, view)
    return np.array(scene.camera_tree.query_ball_point(view.center, reach), np.int64)


def _most_possible(
    scene: Scene, view: View, anchors: NDArray[np.float64], index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The most that each view (V,) can score: what it scores on the anchors that it observes, and
    the best angle on all others. 0 for views that are no candidates, such as those at the same
    place, which show nothing of depth."""
    start, views = scene.observers
    rows = np.flatnonzero(index >= 0)
    first, last = start[index[rows]], start[index[rows] + 1]
    tracks = last - first
    anchor = np.repeat(rows, tracks)
    within = np.arange(len(anchor)) - np.repeat(np.cumsum(tracks) - tracks, tracks)
    observer = views[np.repeat(first, tracks) + within]
    score = _angle_score(anchors[anchor], view.center, scene.centers[observer])
    shared = np.bincount(observer, minlength=len(scene))
    seen = np.bincount(observer, score, minlength=len(scene))
    most = (seen + UNSEEN_WEIGHT * (len(anchors) - shared)) * (1 + 1e-9)
    candidate = shared > 0
    candidate[_nearest(scene, view, NEAREST)] = True
    candidate[rows_at_place(scene, view)] = False
    if view.name in scene:
        candidate[scene.row(view.name)] = False
    return np.where(candidate, most, 0.0)


def _anchors(scene: Scene, view: View) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """World points (N, 3) that `view` looks at, and their rows in the scene's points, -1 where
    they are made up."""
    index = view.point_index
    index = index[transform(view.cam_from_world, scene.points.xyz[index])[:, 2] > 0]
    anchors = scene.points.xyz[index]
    if len(index) >= ENOUGH_POINTS:
        return anchors, index
    spread = _spread_points(scene, view, ANCHOR_GRID)
    return (
        np.concatenate([anchors, spread]),
        np.concatenate([index, np.full(len(spread), -1, dtype=np.int64)]),
    )


def _spread_points(scene: Scene, view: View, grid: tuple[int, int]) -> NDArray[np.float64]:
    """World points (N, 3) spread over the picture of `view` in so many columns and rows, at the
    depth of the scene."""
    width, height = view.camera.width, view.camera.height
    columns, rows = grid
    x, y = np.meshgrid(
        (np.arange(columns) + 0.5) / columns * width, (np.arange(rows) + 0.5) / rows * height
    )
    xy = np.stack([x.ravel(), y.ravel()], axis=-1)
    rays = view.camera.unproject(np.full(len(xy), _typical_depth(scene, view)), xy)
    return transform(np.linalg.inv(view.cam_from_world), rays)


def _typical_depth(scene: Scene, view: View) -> float:
    """Median depth of the points in front of `view`; without points, the depth at which the
    nearest other camera sees the best angle."""
    depth = transform(view.cam_from_world, scene.points.xyz)[:, 2]
    depth = depth[depth > 0]
    if len(depth):
        return float(np.median(depth))
    gaps = np.linalg.norm(scene.centers - view.center, axis=1)
    gaps = gaps[gaps > 0]
    return float(gaps.min() / np.tan(np.radians(BEST_ANGLE_DEG))) if len(gaps) else 1.0


def _angle_score(
    points: NDArray[np.float64], center: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Score in (0, 1] of the angle under which each point (N, 3) sees the two centres."""
    a, b = points - center, points - other
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.einsum("ij,ij->i", a, b) / np.maximum(norm, 1e-300)
    excess = np.degrees(np.arccos(np.clip(cosine, -1, 1))) - BEST_ANGLE_DEG
    return np.exp(-0.5 * (excess / np.where(excess < 0, NARROW_DEG, WIDE_DEG)) ** 2)
