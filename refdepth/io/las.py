"""Clouds for survey software: LAS and LAZ through laspy (extra `las`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refdepth.errors import UnavailableError
from refdepth.types.cloud import PointCloud

_STEPS = 2.0**30
"""Steps of the integer coordinates over the cloud's largest side."""


def write_las(path: Path, cloud: PointCloud, *, wkt: str | None = None) -> None:
    """Writes a LAS 1.4 file (LAZ when `path` ends in .laz), point format 7, with 16-bit colours
    and `confidence` as an extra dimension. Coordinates are the cloud's own; `wkt` says in which
    coordinate reference system they are (OGC WKT 1), None that they are in none.

    Raises `UnavailableError` when laspy, or lazrs for LAZ, is not installed.
    """
    laspy = _laspy(compressed=path.suffix.lower() == ".laz")
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.add_extra_dim(laspy.ExtraBytesParams(name="confidence", type=np.float32))
    points = cloud.points.astype(np.float64)
    low = points.min(axis=0) if len(points) else np.zeros(3)
    side = float(np.ptp(points, axis=0).max()) if len(points) else 1.0
    header.offsets = low
    header.scales = np.full(3, max(side, 1e-9) / _STEPS)
    if wkt is not None:
        header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(wkt))
        header.global_encoding.wkt = True
    las = laspy.LasData(header)
    las.x, las.y, las.z = points.T
    # LAS asks for the full 16-bit range: 255 becomes 65535.
    las.red, las.green, las.blue = (cloud.colors.astype(np.uint16) * 257).T
    las.confidence = cloud.confidence
    las.write(str(path))


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
