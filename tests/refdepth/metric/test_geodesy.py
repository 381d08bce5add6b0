"""Positions on Earth: against what defines the projection, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad

from refdepth.metric.geodesy import Origin, Utm, enu_from_geodetic, geodetic_from_enu

A, F = 6378137.0, 1 / 298.257223563
E2 = F * (2 - F)


def radii(latitude_deg: float) -> tuple[float, float]:
    """Radii of curvature along the meridian and across it, metres."""
    w = 1 - E2 * np.sin(np.radians(latitude_deg)) ** 2
    return A * (1 - E2) / w**1.5, A / w**0.5


@pytest.mark.parametrize("latitude", [-72.0, -33.9, 0.3, 47.4, 69.0])
def test_local_coordinates_are_metres_along_the_ellipsoid(latitude: float) -> None:
    origin = Origin(latitude_deg=latitude, longitude_deg=179.9999, altitude_m=300)
    step = 1e-4
    north, east = radii(latitude)
    moved = [[latitude + step, 179.9999, 300], [latitude, 180.0, 300], [latitude, 179.9999, 307]]
    expected = [
        [0, np.radians(step) * (north + 300), 0],
        [np.radians(step) * (east + 300) * np.cos(np.radians(latitude)), 0, 0],
        [0, 0, 7],
    ]
    assert_allclose(enu_from_geodetic(moved, origin), expected, atol=2e-4)
    there = np.array([[800.0, -1200, 40], [-3, 2, 1]])
    back = enu_from_geodetic(geodetic_from_enu(there, origin), origin)
    assert_allclose(back, there, atol=1e-7)


def test_utm_is_conformal_and_true_on_its_meridian() -> None:
    """A transverse Mercator projection is the only conformal one whose middle meridian is straight
    and evenly scaled."""
    zone = Utm(zone=32, south=False)
    arc = quad(lambda p: radii(np.degrees(p))[0], 0, np.radians(51.3))[0]
    assert_allclose(zone.project([51.3, 9, 12]), [500_000, 0.9996 * arc, 12], atol=1e-5)
    latitude, longitude, step = 58.2, 11.4, 1e-4
    here = zone.project([latitude, longitude, 0])
    north, east = radii(latitude)
    along = zone.project([latitude + step, longitude, 0]) - here
    across = zone.project([latitude, longitude + step, 0]) - here
    along /= np.radians(step) * north
    across /= np.radians(step) * east * np.cos(np.radians(latitude))
    assert_allclose([along[0], along[1]], [-across[1], across[0]], atol=1e-5)
    scale = np.linalg.norm(along[:2])
    distance = (here[0] - 500_000) / 0.9996
    # To second order the scale is k0 (1 + x^2 / 2R^2).
    assert scale == pytest.approx(0.9996 * (1 + distance**2 / (2 * north * east)), rel=1e-6)


@pytest.mark.parametrize(
    ("place", "epsg"),
    [((47.4, 8.5), 32632), ((-33.9, 151.2), 32756), ((10, -180), 32601), ((10, 179.9), 32660)],
)
def test_the_zone_of_a_place(place: tuple[float, float], epsg: int) -> None:
    zone = Utm.at(Origin(latitude_deg=place[0], longitude_deg=place[1], altitude_m=0))
    assert zone is not None
    assert zone.epsg == epsg
    assert f'AUTHORITY["EPSG","{epsg}"]]' in zone.wkt
    assert abs(place[1] - zone.meridian_deg) <= 3
    assert zone.project([*place, 0])[1] > 0


def test_there_is_no_zone_at_the_poles() -> None:
    assert Utm.at(Origin(latitude_deg=88, longitude_deg=0, altitude_m=0)) is None
