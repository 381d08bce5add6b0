"""Scale, orientation and origin from the photos' GPS positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.evaluation.alignment import robust_sim3
from refdepth.ingest.exif import GpsPosition
from refdepth.metric.estimate import Estimate, Measurement, Source
from refdepth.metric.geodesy import Origin, enu_from_geodetic

Array = NDArray[np.float64]

LEAST_PHOTOS = 4
"""Fewer leave nothing that their errors could be told by."""
_ONE_PLACE_M = 0.05
_LARGEST_ERROR = 0.1
"""A scale that is less certain, relative, is none: the positions say nothing but their noise."""
_LARGEST_TILT_DEG = 5.0
"""Of an orientation that is used."""
_SAYS_NOTHING = {
    "subject": "GPS",
    "action": "That says nothing about the scale; give --distance or --tag-size instead.",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class GpsAlignment:
    """The cameras on Earth."""

    estimate: Estimate
    origin: Origin
    """Where east, north and up count from."""
    rotation: Array | None
    """East, north, up from world axes (3, 3); None where the photos lie too much on one line."""
    tilt_error_deg: float
    """One standard deviation of the orientation about its worst axis."""
    center: Array
    """Mean camera centre of the photos used (3,), SfM units."""
    center_enu: Array
    """Their mean position (3,), metres from the origin."""
    residual_m: float
    """Median distance between a camera and its photo's position."""
    residuals_m: dict[str, float]
    """The same of each photo."""


def align_gps(centers: Mapping[str, Array], positions: Mapping[str, GpsPosition]) -> GpsAlignment:
    """Fits a similarity to the camera centres (3,) of photos and their positions, robustly.

    Raises `InputError` where fewer than four photos have a position with an altitude, where all
    are in one place, and where the positions' noise hides how the cameras lie.
    """
    names = [n for n in centers if n in positions and positions[n].altitude_m is not None]
    without = sum(positions[n].altitude_m is None for n in centers if n in positions)
    if len(names) < LEAST_PHOTOS:
        lack = f"; {without} more lack the altitude" if without else ""
        raise InputError(
            f"{len(names)} placed photos have a GPS position with its altitude{lack}.",
            subject="GPS",
            action=f"At least {LEAST_PHOTOS} are needed; or give --distance or --tag-size.",
        )
    world = np.array([centers[n] for n in names])
    geodetic = np.array(
        [
            [positions[n].latitude_deg, positions[n].longitude_deg, positions[n].altitude_m]
            for n in names
        ],
        np.float64,
    )
    first = geodetic[0, 1]
    geodetic[:, 1] = (geodetic[:, 1] - first + 180) % 360 - 180 + first  # across 180 degrees east
    middle = np.median(geodetic, axis=0)
    origin = Origin(
        latitude_deg=float(middle[0]),
        longitude_deg=float((middle[1] + 180) % 360 - 180),
        altitude_m=float(middle[2]),
    )
    enu = enu_from_geodetic(geodetic, origin)
    if float(np.linalg.norm(np.ptp(enu, axis=0))) < _ONE_PLACE_M:
        raise InputError("all photos are in one place by their positions.", **_SAYS_NOTHING)
    try:
        found = robust_sim3(world, enu, method="poses")
    except ValueError as flat:
        raise InputError(
            "all photos lie on one line by their positions.", **_SAYS_NOTHING
        ) from flat
    distance = np.linalg.norm(found.apply(world) - enu, axis=1)
    near = distance <= max(3 * found.residual, 1e-9)
    noise = (float((distance[near] ** 2).sum()) / max(3 * int(near.sum()) - 7, 1)) ** 0.5
    spread = found.scale * np.linalg.svd(world[near] - world[near].mean(axis=0))[1]
    error = noise / float(np.linalg.norm(spread))
    if not error <= _LARGEST_ERROR:
        raise InputError(
            f"the positions are off by {noise:.1f} m, too much for cameras that are spread over"
            f" {found.scale * float(np.linalg.norm(np.ptp(world, axis=0))):.1f} m.",
            **_SAYS_NOTHING,
        )
    tilt = float(np.degrees(noise / max(float(np.hypot(spread[1], spread[2])), 1e-12)))
    notes = []
    if without:
        notes.append(f"{without} photos without an altitude are left out")
    if not near.all():
        notes.append(f"{int((~near).sum())} of {len(names)} positions are far off and left out")
    if tilt > _LARGEST_TILT_DEG:
        notes.append("the photos lie too much on one line to tell which way is up")
    measured = Measurement(
        what=f"{len(names)} photos",
        metres_per_unit=found.scale,
        relative_error=max(error, 1e-6),
    )
    return GpsAlignment(
        estimate=Estimate(
            source=Source.GPS,
            metres_per_unit=found.scale,
            relative_error=measured.relative_error,
            measurements=(measured,),
            notes=tuple(notes),
        ),
        origin=origin,
        rotation=None if tilt > _LARGEST_TILT_DEG else found.matrix[:3, :3] / found.scale,
        tilt_error_deg=tilt,
        center=world[near].mean(axis=0),
        center_enu=enu[near].mean(axis=0),
        residual_m=found.residual,
        residuals_m={n: float(d) for n, d in zip(names, distance, strict=True)},
    )
