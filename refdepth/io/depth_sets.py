"""The depth maps of a scene as image files, with one file that says what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refdepth.io.colors import depth_picture, depth_range
from refdepth.io.depth_files import write_depth_file
from refdepth.io.json_text import to_json
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

INDEX_NAME = "depth.json"
_MAX_LEVEL = (1 << 16) - 1
_JPEG_QUALITY = 90


class DepthFile(StrEnum):
    """Kinds of files; each has a folder of its own name."""

    PNG16 = "png16"
    """Depth over `units_per_level`, rounded."""
    TIFF32 = "tiff32"
    """Depth as it is, 32-bit float."""
    NPZ = "npz"
    """Arrays `depth` and `confidence`, 32-bit float."""
    PICTURES = "pictures"
    """Colours to look at, not data."""


_SUFFIXES = {
    DepthFile.PNG16: ".png",
    DepthFile.TIFF32: ".tiff",
    DepthFile.NPZ: ".npz",
    DepthFile.PICTURES: ".jpg",
}


def png_unit(depths: Iterable[float]) -> float:
    """SfM units of one level, such that 16 bits hold depth up to the largest of `depths`."""
    farthest = max(depths, default=0.0)
    return farthest / _MAX_LEVEL if farthest > 0 else 1.0


def farthest(depth_map: DepthMap) -> float:
    """The largest depth of a view; 0 where it knows none."""
    return float(depth_map.depth.max(initial=0))


def write_depth_set(
    folder: Path,
    scene: Scene,
    load: Callable[[str], DepthMap],
    *,
    kinds: Sequence[DepthFile] = (DepthFile.PNG16, DepthFile.PICTURES),
    names: Sequence[str] | None = None,
    metres_per_unit: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes `KIND/NAME.SUFFIX` for each of `kinds` and of the views `names` (default: all), and
    `depth.json` with scale, unit, cameras and poses; returns the files. 0 is unknown in all."""
    names = scene.names if names is None else names
    unit = png_unit(farthest(load(name)) for name in names)
    rows = {}
    for done, name in enumerate(names):
        rows[name] = write_depth_view(folder, scene[name], load(name), kinds=kinds, unit=unit)
        if progress is not None:
            progress(done + 1, len(names))
    written = [_path(folder, kind, name) for name in names for kind in kinds]
    return [*written, write_depth_index(folder, rows, unit=unit, metres_per_unit=metres_per_unit)]


def write_depth_view(
    folder: Path, view: View, depth_map: DepthMap, *, kinds: Sequence[DepthFile], unit: float
) -> dict[str, Any]:
    """Writes the files of one view; returns its row in the index. `unit` is what `png_unit` says
    of all views."""
    near, far = depth_range(depth_map.depth)
    for kind in kinds:
        path = _path(folder, kind, view.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, kind, depth_map, unit, (near, far))
    return {
        "width": view.camera.width,
        "height": view.camera.height,
        "K": view.camera.K.tolist(),
        "cam_from_world": view.cam_from_world.tolist(),
        "picture_range": [near, far],
    }


def write_depth_index(
    folder: Path, rows: Mapping[str, Any], *, unit: float, metres_per_unit: float | None = None
) -> Path:
    """Writes `depth.json` from the `rows` of all views, by name; returns its path."""
    index = {
        "unit": "SfM units",
        "metres_per_unit": metres_per_unit,
        "unknown": 0,
        "depth": "along the optical axis",
        "png16": {"units_per_level": unit},
        "pictures": "colours to look at, turbo over inverse depth within picture_range; not data",
        "views": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INDEX_NAME
    path.write_text(to_json(index, indent=1) + "\n", encoding="utf-8")
    return path


def _path(folder: Path, kind: DepthFile, name: str) -> Path:
    return folder / kind.value / f"{name}{_SUFFIXES[kind]}"


def _write(
    path: Path, kind: DepthFile, depth_map: DepthMap, unit: float, limits: tuple[float, float]
) -> None:
    if kind is DepthFile.NPZ:
        np.savez(path, depth=depth_map.depth, confidence=depth_map.confidence)
    elif kind is DepthFile.PICTURES:
        picture = depth_picture(depth_map.depth, *limits)
        Image.fromarray(picture).save(path, quality=_JPEG_QUALITY)
    else:
        write_depth_file(path, depth_map.depth, png_scale=unit)
