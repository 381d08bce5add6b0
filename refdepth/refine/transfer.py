"""What neighbours' depth maps say about a view: geometric consistency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from refdepth.arrays import Array, at_least, is_tensor, namespace, put
from refdepth.geometry.filters import maximum_filter, minimum_filter
from refdepth.geometry.steps import STEP_RATIO
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.settings import ConsistencySettings
from refdepth.refine.transfer_kernels import splat
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """Neighbours' depth maps seen from the reference (S, H, W), working grid."""

    depth: Array
    """Depth in the reference; 0 where a neighbour says nothing."""
    confidence: Array
    """The neighbour's own confidence in it."""

    def and_of(self, others: Transferred) -> Transferred:
        """What these and the `others` say."""
        xp = namespace(self.depth)
        return Transferred(
            depth=xp.concat([self.depth, others.depth]),
            confidence=xp.concat([self.confidence, others.confidence]),
        )


def transfer(
    ref: WorkingView, sources: Sequence[WorkingView], depths: Iterable[DepthMap]
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

        depth, confidence = torch_transfer.splat(
            stack[0],
            stack[1],
            [source.grid.shape for source in sources],
            put(A.astype(np.float32), ref.device),
            put(b.astype(np.float32), ref.device),
            ref.grid.shape,
        )
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
    weights = at_least(settings.weight * transferred.confidence, settings.least_confidence)
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
