"""What the values of each export mean, in words: the part of `refdepth-export.json` that people and
tools read before they use a file."""

from __future__ import annotations

from typing import Any

from refdepth.io.depth_sets import DepthSense
from refdepth.io.weights import ABOUT_NORMALS, ABOUT_WEIGHTS, NORMALS
from refdepth.pipeline.export_options import CloudFile, ExportFormat, ExportOptions

_Z = DepthSense()
_SPLAT: dict[str, Any] = {"grid": _Z.grid, "points": "world positions"}
_MAPS: dict[str, Any] = {"depth": _Z.depth, "unknown": 0, "grid": _Z.grid}


def note(format_: ExportFormat, options: ExportOptions) -> dict[str, Any]:
    """Quantity, unit, grid and code for unknown of an export."""
    return {"unit": options.unit, **_notes(format_, options)}


def _notes(format_: ExportFormat, options: ExportOptions) -> dict[str, Any]:
    match format_:
        case ExportFormat.COLMAP | ExportFormat.OPENMVS:
            return {**_MAPS, NORMALS: "unit normals in camera axes, towards the camera; 0: unknown"}
        case ExportFormat.NERFSTUDIO:
            return {**_MAPS, **ABOUT_WEIGHTS, NORMALS: ABOUT_NORMALS}
        case ExportFormat.DEPTH:
            sense = options.sense
            return {"depth": sense.depth, "unknown": 0, "grid": sense.grid}
        case ExportFormat.GRAPHDECO:
            return {
                **_SPLAT,
                "depth": "png / 65536 * scale + offset of depth_params.json is 1 / z",
                "unknown": "0, which the trainer takes for infinitely far",
                **ABOUT_WEIGHTS,
            }
        case ExportFormat.GSPLAT:
            return {
                **_SPLAT,
                "tracks": "refined pixels, and where they fall into the views whose depth agrees",
                "unknown": "no point",
                **ABOUT_WEIGHTS,
            }
        case ExportFormat.SPLAT:
            return _SPLAT
        case ExportFormat.CLOUD if CloudFile.E57 in options.cloud_files:
            return {"points": "world positions; metres in cloud.e57"}
    return {"points": "world positions"}
