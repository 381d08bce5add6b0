"""The scale from known distances between places in the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.metric.estimate import Estimate, Measurement, Source, joined
from refdepth.metric.lengths import KnownDistance

LENGTH_ERROR = 0.002
"""Of a known length, relative: tapes and printers."""
DEPTH_ERROR = 0.005
"""Of depth at a picked pixel, relative."""
_AIM_PX = 1.0
"""How well people hit the pixel they mean."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where a picked pixel lies."""

    point: NDArray[np.float64]
    """World position (3,), SfM units."""
    center: NDArray[np.float64]
    """Centre of the camera that sees it (3,)."""
    focal_px: float
    """Focal length in pixels of the photo in which it was picked."""


def measure_distance(known: KnownDistance, first: Place, second: Place) -> Measurement:
    """The scale by one known distance; its error is that of aiming across the rays and of depth
    along them. Raises `InputError` when both ends are in one place."""
    apart = second.point - first.point
    length = float(np.linalg.norm(apart))
    if not length > 0:
        raise InputError("both ends are one place.", subject=str(known), action="Pick two.")
    variance = 0.0
    for place in (first, second):
        ray = place.point - place.center
        far = float(np.linalg.norm(ray))
        along = float(ray @ apart / (far * length)) ** 2
        variance += (DEPTH_ERROR * far) ** 2 * along
        variance += (_AIM_PX * far / place.focal_px) ** 2 * (1 - along)
    return Measurement(
        what=str(known),
        metres_per_unit=known.length_m / length,
        relative_error=float(np.hypot(variance**0.5 / length, LENGTH_ERROR)),
    )


def scale_from_distances(measurements: list[Measurement]) -> Estimate:
    """All known distances, averaged."""
    return joined(Source.DISTANCES, measurements)
