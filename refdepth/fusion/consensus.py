"""One surface of many views: each view's depth drawn to what its neighbours measure, and each place
given to the cloud by the view that sees it most finely."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.settings import FusionSettings
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

WEIGHT_FLOOR = 0.05  # an estimate that claims no confidence still counts a little in the average
LEAD = 1.02
"""Of two views that see a place about equally finely the first in name gives it. Where the other
sees slightly more finely, by less than this, both do, so that no place falls between them."""
EQUAL = 1 - 1e-4  # what rounding makes of equal distances


def draw_together(
    view: View,
    sources: Sequence[View],
    load: Callable[[str], DepthMap],
    settings: FusionSettings,
) -> DepthMap:
    """One round of consensus: `view`'s depth averaged with that of its sources, met on the rays of
    its pixels. `load` gives what the views have after the round before (at first: what
    `check_view` keeps). Confidence stays as it is.

    Views differ by little each and smoothly, so that every one is a layer of its own; after a few
    rounds all lie on one surface. An estimate's weight is the inverse of its variance: depth is
    known to about z^2 / (baseline x focal length), and neighbours are chosen for like angles, so
    that its standard deviation grows with z / focal length, the width of a pixel; confidence counts
    like its inverse. Estimates count less the more they differ from the pixel's present depth, over
    `average_ratio`, and not at all beyond `max_depth_ratio`: round by round that is an iteratively
    reweighted, robust mean, which leaves surfaces that lie further apart alone.
    """
    from refdepth.fusion import kernels

    own = load(view.name)
    valid = own.depth > 0
    weight = np.where(valid, np.maximum(own.confidence, WEIGHT_FLOOR).astype(np.float64) ** 2, 0)
    weighted_inverse = np.divide(weight, own.depth, out=np.zeros_like(weight), where=valid)
    for source in sources:
        other = load(source.name)
        A, b = _projection(view, source)
        kernels.draw(
            own.depth,
            other.depth,
            other.confidence,
            A,
            b,
            _focal_ratio(view, source),
            settings.max_depth_ratio,
            settings.average_ratio,
            WEIGHT_FLOOR,
            weight,
            weighted_inverse,
        )
    depth = np.divide(weight, weighted_inverse, out=np.zeros_like(weight), where=valid)
    return DepthMap(depth=depth.astype(np.float32), confidence=own.confidence)


def gives(
    view: View,
    depth: NDArray[np.float32],
    rivals: Sequence[View],
    load: Callable[[str], DepthMap],
    settings: FusionSettings,
) -> NDArray[np.bool_]:
    """Which pixels (height, width) the cloud takes of `view` with this `depth` (height, width): the
    known ones whose surface no rival has and sees more finely (pixel width at its distance). Two
    depths are one surface where they differ by at most `max_depth_ratio`."""
    from refdepth.fusion import kernels

    given = depth > 0
    for rival in rivals:
        A, b = _projection(view, rival)
        kernels.yield_to(
            depth,
            load(rival.name).depth,
            A,
            b,
            _focal_ratio(view, rival),
            settings.max_depth_ratio,
            EQUAL if rival.name < view.name else LEAD,
            given,
        )
    return given


def _projection(view: View, source: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
    return projection_from_ref(view.camera, source.camera, source_from_ref)


def _focal_ratio(view: View, source: View) -> float:
    return source.camera.mean_focal_px / view.camera.mean_focal_px
