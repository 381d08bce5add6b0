"""What neighbours' depth maps say about a view: geometric consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, is_tensor, namespace, put
from refdepth.compiled import kernel
from refdepth.geometry.filters import maximum_filter, minimum_filter
from refdepth.geometry.grid import STEP_RATIO
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.settings import ConsistencySettings
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap

SAME_SURFACE = 1.03
"""Ratio of the depths of two points in one pixel up to which they lie on one surface."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """Neighbours' depth maps seen from the reference (S, H, W), working grid."""

    depth: Array
    """Depth in the reference; 0 where a neighbour says nothing."""
    confidence: Array
    """The neighbour's own confidence in it."""


def transfer(
    ref: WorkingView, sources: Sequence[WorkingView], depths: Sequence[DepthMap]
) -> Transferred:
    """Draws the sources' depth maps (each on its source's working grid) into the reference. What a
    source's mask leaves out says nothing, nor do pixels on a depth step: what lies between two
    surfaces is on neither.

    Raises `ValueError` when a map does not have its source's grid.
    """
    sizes = np.array([source.grid.shape for source in sources], dtype=np.int64).reshape(-1, 2)
    largest = sizes.max(axis=0) if len(sizes) else np.zeros(2, np.int64)
    xp = namespace(ref.gray)
    shape = (2, len(sources), *map(int, largest))
    stack = xp.zeros(shape, dtype=xp.float32, device=ref.gray.device)
    A, b = np.empty((len(sources), 3, 3)), np.empty((len(sources), 3))
    for i, (source, depth_map) in enumerate(zip(sources, depths, strict=True)):
        height, width = source.grid.shape
        if depth_map.depth.shape != (height, width):
            raise ValueError(f"depth must be {height, width}, not {depth_map.depth.shape}")
        depth = _without_steps(put(depth_map.depth, ref.device))
        stack[0, i, :height, :width] = xp.where(source.usable, depth, 0.0)
        stack[1, i, :height, :width] = put(depth_map.confidence, ref.device)
        ref_from_source = relative_pose(ref.cam_from_world, source.cam_from_world)
        A[i], b[i] = projection_from_ref(source.grid.camera, ref.grid.camera, ref_from_source)
    if is_tensor(stack):
        from refdepth.refine import torch_transfer

        on = [put(part.astype(np.float32), ref.device) for part in (A, b)]
        shapes = [source.grid.shape for source in sources]
        depth, confidence = torch_transfer.splat(stack[0], stack[1], shapes, *on, ref.grid.shape)
        return Transferred(depth=depth, confidence=confidence)
    seen = np.empty((2, len(sources), *ref.grid.shape), np.float32)
    splat(stack[0], stack[1], sizes, A, b, seen[0], seen[1])
    return Transferred(depth=seen[0], confidence=seen[1])


def opinions(
    transferred: Transferred,
    depth: Array,
    settings: ConsistencySettings,
    *,
    typical: Array = 0.0,
) -> tuple[Array, Array]:
    """Neighbours' corrections of `depth` (H, W) in log depth, and their weights, (S, H, W) each.
    Neighbours that see another surface have no weight. Where they are unsure they still carry the
    error of a prior: then they may be further off before that is assumed, by a multiple of
    `typical`, the log-depth error that priors of this kind turned out to have."""
    values, both = _differences(transferred, depth)
    xp = namespace(depth)
    weights = xp.maximum(settings.weight * transferred.confidence, settings.least_confidence)
    typical = xp.asarray(typical)
    limit = settings.limit * xp.ones_like(typical)
    unsure = xp.maximum(limit, settings.unsure_limit * typical)
    limit = xp.where(weights < settings.sure_weight, unsure, limit)
    return values, xp.where(both & (xp.abs(values) < limit), weights, 0.0)


def agreement(
    transferred: Transferred, depth: Array, tolerance: float, weights: Array | None = None
) -> Array:
    """How many neighbours put a point at `depth` (H, W): each counts by its closeness, 1 at no
    difference, half at a difference of `tolerance` in log depth, times its weight (S, H, W)."""
    difference, both = _differences(transferred, depth)
    closeness = both / (1 + (difference / tolerance) ** 2)
    if weights is not None:
        closeness = closeness * weights
    xp = namespace(closeness)
    return xp.sum(closeness, axis=0)


def disagreement(transferred: Transferred, depth: Array, tolerance: float) -> tuple[Array, Array]:
    """Shares of neighbours (H, W) that see a surface behind `depth`, so look through it, and in
    front of it, by more than `tolerance` in log depth. One neighbour more than there are is
    counted, so that a single one cannot make a share of 1."""
    difference, both = _differences(transferred, depth)
    xp = namespace(depth)
    count = 1 + xp.sum(both, axis=0)
    behind = xp.sum(both & (difference > tolerance), axis=0) / count
    before = xp.sum(both & (difference < -tolerance), axis=0) / count
    return xp.astype(behind, xp.float32), xp.astype(before, xp.float32)


def _without_steps(depth: Array) -> Array:
    """`depth` (H, W), 0 next to a step."""
    xp = namespace(depth)
    farthest = maximum_filter(depth, 3)
    nearest = minimum_filter(xp.where(depth > 0, depth, xp.inf), 3)
    return xp.where(farthest < STEP_RATIO * nearest, depth, 0.0)


def _differences(transferred: Transferred, depth: Array) -> tuple[Array, Array]:
    """log(neighbour's depth / depth) (S, H, W), 0 where either is unknown, and where both are."""
    both = (transferred.depth > 0) & (depth > 0)
    xp = namespace(depth)
    ratio = xp.where(both, transferred.depth / xp.where(both, depth, 1.0), 1.0)
    return xp.log(ratio), both


@kernel
def splat(
    depths: NDArray[np.float32],
    confidences: NDArray[np.float32],
    sizes: NDArray[np.int64],
    A: NDArray[np.float64],
    b: NDArray[np.float64],
    seen_depth: NDArray[np.float32],
    seen_confidence: NDArray[np.float32],
) -> None:
    """Draws each source's depth map into the reference. Of several points that fall into a pixel
    the nearest surface counts, and of that the point closest to the pixel's centre: the nearest
    point of a slanted surface would lie to one side.

    `depths`, `confidences` (S, Hs, Ws) are padded to the largest source, `sizes` (S, 2) holds each
    one's height and width. A (S, 3, 3), b (S, 3): reference pixel of source pixel (x, y) at z is
    A (x, y, 1) z + b. Fills `seen_depth` and `seen_confidence` (S, H, W), 0 where nothing falls.
    """
    n_sources, height, width = seen_depth.shape
    for s in range(n_sources):
        offset = np.empty((height, width), np.float32)
        seen_depth[s] = 0
        seen_confidence[s] = 0
        for y in range(sizes[s, 0]):
            for x in range(sizes[s, 1]):
                z = float(depths[s, y, x])
                if not z > 0:
                    continue
                xc = x + 0.5
                yc = y + 0.5
                w = (A[s, 2, 0] * xc + A[s, 2, 1] * yc + A[s, 2, 2]) * z + b[s, 2]
                if not w > 0:
                    continue
                u = ((A[s, 0, 0] * xc + A[s, 0, 1] * yc + A[s, 0, 2]) * z + b[s, 0]) / w
                v = ((A[s, 1, 0] * xc + A[s, 1, 1] * yc + A[s, 1, 2]) * z + b[s, 1]) / w
                if not (0 <= u < width and 0 <= v < height):
                    continue
                iu = int(u)
                iv = int(v)
                held = seen_depth[s, iv, iu]
                away = np.float32((u - iu - 0.5) ** 2 + (v - iv - 0.5) ** 2)
                before = w * SAME_SURFACE < held
                same = w < held * SAME_SURFACE and not before
                if held == 0 or before or (same and away < offset[iv, iu]):
                    seen_depth[s, iv, iu] = w
                    seen_confidence[s, iv, iu] = confidences[s, y, x]
                    offset[iv, iu] = away


@kernel
def vote(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    changes: NDArray[np.float32],
    tolerance: float,
    gain: float,
    volume: NDArray[np.float32],
) -> None:
    """Adds to `volume` (H, W, D) what the opinions `values` (S, H, W) cost the hypotheses
    `changes` (D,): per opinion at most gain * weight, reached at a distance of `tolerance`."""
    n, height, width = values.shape
    sharpness = np.float32(1 / tolerance)
    for y in range(height):
        for x in range(width):
            for i in range(n):
                weight = np.float32(gain) * weights[i, y, x]
                if weight > 0:
                    for d in range(changes.shape[0]):
                        distance = (values[i, y, x] - changes[d]) * sharpness
                        volume[y, x, d] += weight * min(distance * distance, np.float32(1))
