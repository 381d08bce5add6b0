"""Positions on Earth (WGS 84) as local east, north, up, and as UTM coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_A, _F = 6378137.0, 1 / 298.257223563
"""Equatorial radius, metres, and flattening of the ellipsoid."""
_E2 = _F * (2 - _F)
_UTM_SCALE, _FALSE_EASTING, _FALSE_NORTHING = 0.9996, 500_000.0, 10_000_000.0
_UTM_LATITUDES = (-80.0, 84.0)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The place that local coordinates count from."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    """As the photos' EXIF data counts it: mostly above sea level."""


def enu_from_geodetic(geodetic: ArrayLike, origin: Origin) -> Array:
    """East, north, up (..., 3), metres from `origin`, of latitude and longitude in degrees and
    altitude in metres (..., 3)."""
    rotation, center = _local(origin)
    return (_ecef(np.asarray(geodetic, np.float64)) - center) @ rotation.T


def geodetic_from_enu(enu: ArrayLike, origin: Origin) -> Array:
    """The inverse of `enu_from_geodetic`."""
    rotation, center = _local(origin)
    x, y, z = np.moveaxis(np.asarray(enu, np.float64) @ rotation + center, -1, 0)
    across = np.hypot(x, y)
    latitude = np.arctan2(z, across * (1 - _E2))
    for _ in range(5):  # gains two digits or more a step
        radius = _A / np.sqrt(1 - _E2 * np.sin(latitude) ** 2)
        latitude = np.arctan2(z + _E2 * radius * np.sin(latitude), across)
    sine, cosine = np.sin(latitude), np.cos(latitude)
    radius = _A / np.sqrt(1 - _E2 * sine**2)
    altitude = across * cosine + z * sine - radius * (1 - _E2 * sine**2)
    return np.stack([np.degrees(latitude), np.degrees(np.arctan2(y, x)), altitude], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Utm:
    """A zone of the universal transverse Mercator projection."""

    zone: int
    """1 to 60."""
    south: bool

    @classmethod
    def at(cls, origin: Origin) -> Utm | None:
        """The zone of a place; None near the poles, where there is none."""
        low, high = _UTM_LATITUDES
        if not low <= origin.latitude_deg <= high:
            return None
        zone = int((origin.longitude_deg + 180) // 6) % 60 + 1
        return cls(zone=zone, south=origin.latitude_deg < 0)

    @property
    def epsg(self) -> int:
        """EPSG code."""
        return (32700 if self.south else 32600) + self.zone

    @property
    def wkt(self) -> str:
        """The coordinate reference system as OGC WKT 1, as LAS 1.4 asks."""
        half = "S" if self.south else "N"
        northing = _FALSE_NORTHING if self.south else 0.0
        return (
            f'PROJCS["WGS 84 / UTM zone {self.zone}{half}",GEOGCS["WGS 84",DATUM["WGS_1984",'
            'SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
            'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
            'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
            'AUTHORITY["EPSG","4326"]],PROJECTION["Transverse_Mercator"],'
            f'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",{self.meridian_deg}],'
            f'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
            f'PARAMETER["false_northing",{northing:.0f}],'
            'UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],'
            f'AXIS["Northing",NORTH],AUTHORITY["EPSG","{self.epsg}"]]'
        )

    @property
    def meridian_deg(self) -> int:
        """Longitude of the middle of the zone."""
        return 6 * self.zone - 183

    def project(self, geodetic: ArrayLike) -> Array:
        """Easting, northing and altitude (..., 3), metres, of latitude and longitude in degrees and
        altitude (..., 3); within a micrometre (Krueger's series, Karney 2011)."""
        latitude, longitude, altitude = np.moveaxis(np.asarray(geodetic, np.float64), -1, 0)
        sine = np.sin(np.radians(latitude))
        turn = np.radians((longitude - self.meridian_deg + 180) % 360 - 180)
        e = _E2**0.5
        t = np.sinh(np.arctanh(sine) - e * np.arctanh(e * sine))
        xi, eta = np.arctan2(t, np.cos(turn)), np.arctanh(np.sin(turn) / np.hypot(1, t))
        n = _F / (2 - _F)
        series = (
            n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16 + 41 * n**4 / 180,
            13 * n**2 / 48 - 3 * n**3 / 5 + 557 * n**4 / 1440,
            61 * n**3 / 240 - 103 * n**4 / 140,
            49561 * n**4 / 161280,
        )
        x, y = eta.copy(), xi.copy()
        for order, alpha in enumerate(series, start=1):
            x += alpha * np.cos(2 * order * xi) * np.sinh(2 * order * eta)
            y += alpha * np.sin(2 * order * xi) * np.cosh(2 * order * eta)
        radius = _UTM_SCALE * _A / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
        northing = radius * y + (_FALSE_NORTHING if self.south else 0.0)
        return np.stack([_FALSE_EASTING + radius * x, northing, altitude], axis=-1)


def _ecef(geodetic: Array) -> Array:
    """Earth-centred positions (..., 3), metres."""
    latitude, longitude = np.radians(geodetic[..., 0]), np.radians(geodetic[..., 1])
    sine, cosine = np.sin(latitude), np.cos(latitude)
    radius = _A / np.sqrt(1 - _E2 * sine**2)
    across = (radius + geodetic[..., 2]) * cosine
    return np.stack(
        [
            across * np.cos(longitude),
            across * np.sin(longitude),
            (radius * (1 - _E2) + geodetic[..., 2]) * sine,
        ],
        axis=-1,
    )


def _local(origin: Origin) -> tuple[Array, Array]:
    """Local axes in Earth-centred ones (3, 3), one a row, and the origin (3,)."""
    p, l = np.radians([origin.latitude_deg, origin.longitude_deg])  # noqa: E741
    axes = [
        [-np.sin(l), np.cos(l), 0],
        [-np.sin(p) * np.cos(l), -np.sin(p) * np.sin(l), np.cos(p)],
        [np.cos(p) * np.cos(l), np.cos(p) * np.sin(l), np.sin(p)],
    ]
    place = [origin.latitude_deg, origin.longitude_deg, origin.altitude_m]
    return np.array(axes), _ecef(np.array(place))
