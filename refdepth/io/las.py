"""Clouds for survey software: LAS and LAZ through laspy (extra `las`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import UnavailableError
from refdepth.types.cloud import PointCloud

_STEPS = 2.0**30
"""Steps of the integer coordinates over the cloud's largest side."""


def write_las(
    path: Path, pieces: Callable[[], Iterable[PointCloud]], *, wkt: str | None = None
) -> int:
    """Writes the cloud that each call of `pieces` gives, one piece in memory at a time, as a LAS
    1.4 file (LAZ when `path` ends in .laz), point format 7, with 16-bit colours and `confidence` as
    an extra dimension; returns the number of points. Coordinates are the cloud's own; `wkt` says in
    which coordinate reference system they are (OGC WKT 1), None that they are in none.

    Raises `UnavailableError` when laspy, or lazrs for LAZ, is not installed.
    """
    laspy = _laspy(compressed=path.suffix.lower() == ".laz")
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.add_extra_dim(laspy.ExtraBytesParams(name="confidence", type=np.float32))
    low, high = _bounds(pieces())
    header.offsets = low
    header.scales = np.full(3, max(float((high - low).max()), 1e-9) / _STEPS)
    if wkt is not None:
        header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(wkt))
        header.global_encoding.wkt = True
    count = 0
    with laspy.open(str(path), mode="w", header=header) as file:
        for cloud in pieces():
            record = laspy.ScaleAwarePointRecord.zeros(len(cloud), header=header)
            record.x, record.y, record.z = cloud.points.astype(np.float64).T
            # LAS asks for the full 16-bit range: 255 becomes 65535.
            record.red, record.green, record.blue = (cloud.colors.astype(np.uint16) * 257).T
            record.confidence = cloud.confidence
            file.write_points(record)
            count += len(cloud)
    return count


def _bounds(pieces: Iterable[PointCloud]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the largest coordinates of a cloud (3,); a unit's side without any points."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for cloud in pieces:
        if len(cloud):
            points = cloud.points.astype(np.float64)
            low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    return (low, high) if low[0] <= high[0] else (np.zeros(3), np.ones(3))


def _laspy(*, compressed: bool) -> Any:
    try:
        import laspy

        if compressed:
            import lazrs  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "is not installed; LAS and LAZ need it.",
            subject=error.name,
            action="pip install 'refdepth[las]', or export the cloud as PLY.",
        ) from error
    return laspy
