"""Clouds for survey software as E57 (ASTM E2807) through pye57 (extra `e57`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refdepth.errors import InputError, UnavailableError
from refdepth.types.cloud import PointCloud
from refdepth.writing import refused


def write_e57(path: Path, cloud: PointCloud, *, metres_per_unit: float | None) -> None:
    """Writes a cloud as one scan in metres, as the format asks: positions, 8-bit colours, and the
    confidence in [0, 1] as `intensity`. Axes and origin are the scene's own; positions are float32
    from the middle of the cloud, which the scan's pose holds in full.

    Raises `UnavailableError` when pye57 is not installed, and `InputError` where nobody knows how
    many metres a unit is, or the cloud is empty, `OSError` where the file cannot be written.
    """
    pye57 = _pye57()
    if metres_per_unit is None:
        raise InputError(
            "is in metres by definition, and the scene's scale is not known.",
            subject=path.name,
            action="Export PLY or LAS, run `refdepth scale-to`, or give metric depth maps with"
            " --depth-unit.",
        )
    if not len(cloud):
        raise InputError("the cloud has no points.", subject=path.name)
    points = cloud.points.astype(np.float64) * metres_per_unit
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    local = points - middle
    data: dict[str, Any] = {
        f"cartesian{axis}": np.ascontiguousarray(local[:, number])
        for number, axis in enumerate("XYZ")
    }
    for number, color in enumerate(("Red", "Green", "Blue")):
        data[f"color{color}"] = np.ascontiguousarray(cloud.colors[:, number])
    data["intensity"] = cloud.confidence
    try:
        with pye57.E57(str(path), mode="w") as file:
            file.write_scan_raw(
                data, name="refdepth", rotation=np.array([1.0, 0, 0, 0]), translation=middle
            )
    except pye57.libe57.E57Exception as error:
        raise refused(path, error) from error


def _pye57() -> Any:
    try:
        import pye57
    except ImportError as error:
        raise UnavailableError(
            "is not installed; E57 needs it.",
            subject="pye57",
            action="pip install 'refdepth[e57]', or export the cloud as PLY.",
        ) from error
    return pye57
