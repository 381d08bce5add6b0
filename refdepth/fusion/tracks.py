"""Refined pixels as points with tracks: dense supervision for trainers that take depth from a
COLMAP model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import invert_pose, transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparsePoints, View

POINTS_PER_VIEW = 3000
_LATTICE = 4
"""Pixels that are tried in each cell, on a side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedPoints:
    """Pixels of one view as points, and which other views see them."""

    xyz: NDArray[np.float64]
    """World positions (N, 3), SfM units."""
    rgb: NDArray[np.uint8]
    """Colours (N, 3)."""
    sources: tuple[str, ...]
    """Names of M other views."""
    seen: NDArray[np.bool_]
    """Whether each of them sees each point (N, M); each point is seen by one at least."""


def track_pixels(
    view: View,
    depth_map: DepthMap,
    image: NDArray[np.uint8],
    sources: Sequence[tuple[View, DepthMap]],
    *,
    max_depth_ratio: float,
    count: int = POINTS_PER_VIEW,
) -> TrackedPoints:
    """At most `count` of a view's pixels as points, spread evenly: the picture is divided into
    `count` cells, and of each the most confident pixel is taken that another view sees; where cells
    have none, others give a second.

    A source sees a point that falls into its picture where its own depth, at the nearest pixel,
    differs by a share of `max_depth_ratio` at most. `image` (height, width, 3) gives colours.
    """
    side = max(1.0, math.sqrt(depth_map.depth.size / count))
    step = max(1, int(side / _LATTICE))
    known = depth_map.depth[step // 2 :: step, step // 2 :: step] > 0
    row, column = np.argwhere(known).T * step + step // 2
    z = depth_map.depth[row, column].astype(np.float64)
    pixels = np.stack([column, row], axis=1) + 0.5
    world_from_cam = invert_pose(view.cam_from_world)
    xyz = transform(world_from_cam, view.camera.unproject(z, pixels))
    seen = np.zeros((len(xyz), len(sources)), np.bool_)
    for number, (source, found) in enumerate(sources):
        seen[:, number] = _sees(source, found, xyz, max_depth_ratio)
    confidence = depth_map.confidence[row, column]
    cell = (pixels // side).astype(np.int64) @ [1, 1 << 32]
    order = np.flatnonzero(seen.any(axis=1))
    order = order[np.lexsort((order, -confidence[order], cell[order]))]
    _, first, inverse = np.unique(cell[order], return_index=True, return_inverse=True)
    rank = np.arange(len(order)) - first[inverse]
    chosen = np.sort(order[np.lexsort((-confidence[order], rank))][:count])
    return TrackedPoints(
        xyz=xyz[chosen],
        rgb=image[row[chosen], column[chosen]],
        sources=tuple(source.name for source, _ in sources),
        seen=seen[chosen],
    )


def tracked_scene(scene: Scene, found: Mapping[str, TrackedPoints]) -> Scene:
    """The scene with the points of `found`, by view, instead of its own. A view observes a point
    where the point projects, so that tracks have no reprojection error."""
    points = [found[name] for name in scene.names if name in found]
    starts = dict(
        zip(
            [name for name in scene.names if name in found],
            np.cumsum([0, *(len(part.xyz) for part in points)]),
            strict=False,
        )
    )
    observed: dict[str, list[NDArray[np.int64]]] = {name: [] for name in scene.names}
    for name, start in starts.items():
        part = found[name]
        observed[name].append(start + np.arange(len(part.xyz)))
        for number, source in enumerate(part.sources):
            observed[source].append(start + np.flatnonzero(part.seen[:, number]))
    xyz = np.concatenate([part.xyz for part in points]) if points else np.zeros((0, 3))
    rgb = [part.rgb for part in points] or [np.zeros((0, 3), np.uint8)]
    lengths = [1 + part.seen.sum(axis=1) for part in points] or [np.zeros(0, np.int64)]
    views = []
    for view in scene.views:
        index = np.sort(np.concatenate([*observed[view.name], np.zeros(0, np.int64)]))
        xy, _ = view.camera.project(transform(view.cam_from_world, xyz[index]))
        views.append(replace(view, point_index=index, point_xy=xy))
    return Scene(
        views,
        SparsePoints(
            xyz=xyz,
            rgb=np.concatenate(rgb),
            error_px=np.zeros(len(xyz)),
            track_length=np.concatenate(lengths),
        ),
    )


def _sees(
    source: View, found: DepthMap, xyz: NDArray[np.float64], max_depth_ratio: float
) -> NDArray[np.bool_]:
    """Which world points (N, 3) are where a view has its surface."""
    xy, z = source.camera.project(transform(source.cam_from_world, xyz))
    inside = source.camera.contains(xy)
    seen = np.zeros(len(xyz), np.bool_)
    column, row = xy[inside].astype(np.int64).T
    depth = found.depth[row, column]
    seen[inside] = (depth > 0) & (np.abs(depth / z[inside] - 1) <= max_depth_ratio)
    return seen
