"""One surface of many views: each view's depth drawn to what its neighbours measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.beside import fade_into
from refdepth.fusion.settings import FusionSettings
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

WEIGHT_FLOOR = 0.05  # an estimate that claims no confidence still counts a little in the average


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A view after a round of consensus."""

    depth_map: DepthMap
    """Agreed depth (height, width), SfM units; 0 where nothing was known."""
    voters: NDArray[np.uint32]
    """Bit i set where the i-th source has the same surface (height, width)."""


def draw_together(
    view: View,
    sources: Sequence[View],
    load: Callable[[str], DepthMap],
    settings: FusionSettings,
    beside: Sequence[View] = (),
) -> Drawn:
    """One round of consensus: `view`'s depth averaged with that of its sources (at most 32), met on
    the rays of its pixels, and faded into that of the views `beside` it, taken from the same place
    (see `fade_into`). `load` gives what the views have after the round before (at first: what
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
    voters = np.zeros(own.depth.shape, np.uint32)
    for index, source in enumerate(sources):
        other = load(source.name)
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        kernels.draw(
            own.depth,
            other.depth,
            other.confidence,
            A,
            b,
            source.camera.mean_focal_px / view.camera.mean_focal_px,
            settings.max_depth_ratio,
            settings.average_ratio,
            WEIGHT_FLOOR,
            np.uint32(1 << index),
            voters,
            weight,
            weighted_inverse,
        )
    depth = np.divide(weight, weighted_inverse, out=np.zeros_like(weight), where=valid)
    depth = fade_into(view, beside, depth.astype(np.float32), load, settings.max_depth_ratio)
    drawn = DepthMap(depth=depth, confidence=own.confidence)
    return Drawn(depth_map=drawn, voters=voters)
