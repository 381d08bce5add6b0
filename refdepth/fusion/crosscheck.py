"""Which pixels of a depth map its neighbours confirm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.views import load_checked
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

STEP_RADIUS_PX = 2  # depth is interpolated, so wrong, this close to a step


class DepthCache:
    """Depth maps loaded on demand, without what the views' masks leave out; the least recently
    used one leaves when memory is short."""

    def __init__(self, load: Callable[[str], DepthMap], scene: Scene, cache_mb: float) -> None:
        self._load = load
        self._scene = scene
        self._limit = cache_mb * 2**20
        self._bytes = 0
        self._maps: OrderedDict[str, DepthMap] = OrderedDict()

    def __call__(self, name: str) -> DepthMap:
        """The depth map of a view. Raises `InputError` when its size is not the camera's."""
        if name in self._maps:
            self._maps.move_to_end(name)
            return self._maps[name]
        found = load_checked(self._scene, self._load, name)
        self._maps[name] = found
        self._bytes += _size(found)
        while self._bytes > self._limit and len(self._maps) > 1:
            self._bytes -= _size(self._maps.popitem(last=False)[1])
        return found


def _size(depth_map: DepthMap) -> int:
    return depth_map.depth.nbytes + depth_map.confidence.nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewConsistency:
    """What the neighbours say about one view's depth map."""

    depth: NDArray[np.float32]
    """The view's own depth (height, width), SfM units; 0 where the pixel is not kept."""
    confidence: NDArray[np.float32]
    """In [0, 1] (height, width): mean confidence of the agreeing estimates times the belief in
    the pixel; 0 where it is not kept."""
    agreeing: NDArray[np.uint8]
    """Number of neighbours that agree (height, width)."""
    against: NDArray[np.float32]
    """Confidence of the neighbours that see through the pixel's point, added up (height, width)."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that are kept (height, width)."""
        return self.depth > 0

    @property
    def depth_map(self) -> DepthMap:
        """What is kept of the view's depth, and its confidence: where `draw_together` starts."""
        return DepthMap(depth=self.depth, confidence=self.confidence)


def check_view(
    view: View,
    sources: Sequence[View],
    load: Callable[[str], DepthMap],
    settings: FusionSettings,
) -> ViewConsistency:
    """Compares `view`'s depth map with those of its sources (at most 255).

    A source agrees with a pixel when its depth at the pixel's point, carried back, lands within
    `max_reprojection_px` of the pixel and within `max_depth_ratio` of its depth; it contradicts
    when it measures a surface behind the point. A nearer surface hides the point: no opinion.
    The belief in a pixel is the share of opinions in its favour, its own among them, each weighed
    with its confidence: who knows little cannot say much against a pixel. A surface that few views
    see needs no more than that most of those agree; where nobody else has an opinion, the belief is
    the pixel's own confidence. At depth steps and on surfaces seen edge-on (`max_slant_deg`), where
    depth is interpolated and neighbours share the mistake, `min_agreeing_steep` of them must agree.
    What is left in small pieces goes.
    """
    from refdepth.fusion import kernels

    own = load(view.name)
    shape = own.depth.shape
    agreeing = np.zeros(shape, np.uint8)
    favour, against = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    depth = np.where(own.confidence >= settings.min_confidence, own.depth, 0).astype(np.float32)
    valid = depth > 0
    for source in sources:
        other = load(source.name)
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        A_back, b_back = projection_from_ref(
            source.camera, view.camera, np.linalg.inv(source_from_ref)
        )
        kernels.compare(
            depth,
            other.depth,
            other.confidence,
            A,
            b,
            A_back,
            b_back,
            settings.max_reprojection_px,
            settings.max_depth_ratio,
            agreeing,
            favour,
            against,
        )
    favour += own.confidence
    heard = (agreeing > 0) | (against > 0)
    share = favour / np.maximum(favour + against, np.finfo(np.float32).tiny)
    belief = np.where(heard, share, own.confidence)
    steep = kernels.near_steps(own.depth, STEP_RADIUS_PX, _steepest(view, settings))
    needed = np.where(steep, settings.min_agreeing_steep, settings.min_agreeing)
    needed = np.minimum(needed, len(sources))
    keep = valid & (agreeing >= needed) & (belief >= settings.min_belief)
    least = int(np.ceil(settings.min_segment * keep.size))
    kernels.small_segments(depth, keep, 2 * settings.max_depth_ratio, least)
    confidence = np.where(keep, favour / (1.0 + agreeing) * belief, 0)
    return ViewConsistency(
        depth=np.where(keep, depth, 0),
        confidence=confidence.astype(np.float32),
        agreeing=agreeing,
        against=against,
    )


def _steepest(view: View, settings: FusionSettings) -> float:
    """Relative change of depth across the step window of a surface at the largest slant."""
    slope = np.tan(np.radians(settings.max_slant_deg)) / view.camera.mean_focal_px
    return float(2 * STEP_RADIUS_PX * slope)
