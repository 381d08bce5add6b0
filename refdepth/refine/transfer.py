"""What neighbours' depth maps say about a view: geometric consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.geometry.grid import shrink_camera, shrink_depth
from refdepth.refine.settings import ConsistencySettings
from refdepth.refine.transfer_kernels import splat
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage

Map = NDArray[np.float32]
STEP_RATIO = 1.1
"""Ratio of depths within 3x3 pixels from which they belong to different surfaces."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """Neighbours' depth maps seen from the reference (S, H, W), working grid."""

    depth: NDArray[np.float32]
    """Depth in the reference; 0 where a neighbour says nothing."""
    confidence: NDArray[np.float32]
    """The neighbour's own confidence in it."""


def transfer(
    ref: PosedImage, sources: Sequence[PosedImage], depths: Sequence[DepthMap], factor: int
) -> Transferred:
    """Draws the sources' depth maps into the reference, at the working grid of `factor`. Pixels on
    a depth step are left out: what lies between two surfaces is on neither."""
    camera = shrink_camera(ref.camera, factor)
    cameras = [shrink_camera(source.camera, factor) for source in sources]
    sizes = np.array([c.shape for c in cameras], dtype=np.int64).reshape(-1, 2)
    largest = sizes.max(axis=0) if len(sizes) else np.zeros(2, np.int64)
    stack = np.zeros((2, len(sources), *largest), np.float32)
    A, b = np.empty((len(sources), 3, 3)), np.empty((len(sources), 3))
    for i, (source, depth_map) in enumerate(zip(sources, depths, strict=True)):
        height, width = sizes[i]
        stack[0, i, :height, :width] = _without_steps(shrink_depth(depth_map.depth, factor))
        stack[1, i, :height, :width] = shrink_depth(depth_map.confidence, factor)
        ref_from_source = relative_pose(ref.cam_from_world, source.cam_from_world)
        A[i], b[i] = projection_from_ref(cameras[i], camera, ref_from_source)
    seen = np.empty((2, len(sources), *camera.shape), np.float32)
    splat(stack[0], stack[1], sizes, A, b, seen[0], seen[1])
    return Transferred(depth=seen[0], confidence=seen[1])


def opinions(
    transferred: Transferred,
    depth: Map,
    settings: ConsistencySettings,
    *,
    typical: float = 0.0,
) -> tuple[Map, Map]:
    """Neighbours' corrections of `depth` (H, W) in log depth, and their weights, (S, H, W) each.
    Neighbours that see another surface have no weight. Where they are unsure they still carry the
    error of a prior: then they may be further off before that is assumed, by a multiple of
    `typical`, the log-depth error that priors of this kind turned out to have."""
    values, both = _differences(transferred, depth)
    weights = np.maximum(
        np.float32(settings.weight) * transferred.confidence,
        np.float32(settings.least_confidence),
    )
    unsure = max(settings.limit, settings.unsure_limit * typical)
    limit = np.where(weights < settings.sure_weight, unsure, settings.limit)
    return values, np.where(both & (np.abs(values) < limit), weights, 0).astype(np.float32)


def agreement(
    transferred: Transferred, depth: Map, tolerance: float, weights: Map | None = None
) -> Map:
    """How many neighbours put a point at `depth` (H, W): each counts by its closeness, 1 at no
    difference, half at a difference of `tolerance` in log depth, times its weight (S, H, W)."""
    difference, both = _differences(transferred, depth)
    closeness = both / (1 + (difference / tolerance) ** 2)
    if weights is not None:
        closeness = closeness * weights
    return closeness.sum(axis=0).astype(np.float32)


def disagreement(transferred: Transferred, depth: Map, tolerance: float) -> tuple[Map, Map]:
    """Shares of neighbours (H, W) that see a surface behind `depth`, so look through it, and in
    front of it, by more than `tolerance` in log depth. One neighbour more than there are is
    counted, so that a single one cannot make a share of 1."""
    difference, both = _differences(transferred, depth)
    count = 1 + both.sum(axis=0)
    behind = (both & (difference > tolerance)).sum(axis=0) / count
    before = (both & (difference < -tolerance)).sum(axis=0) / count
    return behind.astype(np.float32), before.astype(np.float32)


def _without_steps(depth: Map) -> Map:
    """`depth` (H, W), 0 next to a step."""
    farthest = ndimage.maximum_filter(depth, 3)
    nearest = ndimage.minimum_filter(np.where(depth > 0, depth, np.inf), 3)
    return np.where(farthest < STEP_RATIO * nearest, depth, 0).astype(np.float32)


def _differences(transferred: Transferred, depth: Map) -> tuple[Map, NDArray[np.bool_]]:
    """log(neighbour's depth / depth) (S, H, W), 0 where either is unknown, and where both are."""
    both = (transferred.depth > 0) & (depth > 0)
    ratio = np.divide(transferred.depth, depth, where=both, out=np.ones_like(transferred.depth))
    return np.log(ratio), both
