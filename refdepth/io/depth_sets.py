"""The depth maps of a scene as image files, with one file that says what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.geometry.lens import InputPhoto
from refdepth.geometry.photo_grid import PlacedDepth, on_original, on_undistorted
from refdepth.io.colmap import normal_map
from refdepth.io.colors import depth_picture, depth_range
from refdepth.io.depth_files import write_depth_file
from refdepth.io.exr import write_exr
from refdepth.io.json_text import to_json
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View
from refdepth.writing import save_picture

SFM_UNITS, METRES = "SfM units", "metres"
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
    """Arrays `depth` and `confidence`, 32-bit float, and `about`, text."""
    NPY = "npy"
    """Depth as it is, 32-bit float."""
    EXR = "exr"
    """Depth, confidence, normals and positions, 32-bit float (extra `exr`)."""
    PICTURES = "pictures"
    """Colours to look at, not data."""


_SUFFIXES = {
    DepthFile.PNG16: ".png",
    DepthFile.TIFF32: ".tiff",
    DepthFile.NPZ: ".npz",
    DepthFile.NPY: ".npy",
    DepthFile.EXR: ".exr",
    DepthFile.PICTURES: ".jpg",
}


@dataclass(frozen=True, kw_only=True)
class DepthSense:
    """What the values of exported depth maps are, and on which grid they lie."""

    ray_depth: bool = False
    """Whether depth is the distance along each pixel's ray; else it is z along the optical axis."""
    original: bool = False
    """Whether the grid is that of the photos before undistortion."""
    unit: str = field(default=SFM_UNITS, compare=False)
    """What the values are in, in words."""

    @property
    def depth(self) -> str:
        """The quantity in words."""
        return "distance along the ray" if self.ray_depth else "z along the optical axis"

    @property
    def grid(self) -> str:
        """The grid in words."""
        return "original photo, with lens distortion" if self.original else "undistorted photo"

    @property
    def about(self) -> str:
        """One line for the files that have a place for text."""
        return f"depth: {self.depth}; unit: {self.unit}; unknown: 0; grid: {self.grid}"

    def place(self, view: View, depth_map: DepthMap, photo: InputPhoto | None) -> PlacedDepth:
        """A view's depth map on the grid; `photo` is what the view was undistorted from."""
        if not self.original:
            return on_undistorted(view, depth_map)
        if photo is None:
            raise ValueError(f"{view.name} on its original grid needs the photo's camera")
        return on_original(view, depth_map, photo)

    def values(self, placed: PlacedDepth) -> NDArray[np.float32]:
        """The depth that is written (height, width), SfM units, 0 unknown."""
        return placed.ray_depth if self.ray_depth else placed.depth_map.depth


def png_unit(depths: Iterable[float]) -> float:
    """SfM units of one level, such that 16 bits hold depth up to the largest of `depths`."""
    farthest = max(depths, default=0.0)
    return farthest / _MAX_LEVEL if farthest > 0 else 1.0


def farthest(
    view: View,
    depth_map: DepthMap,
    sense: DepthSense = DepthSense(),
    photo: InputPhoto | None = None,
) -> float:
    """The largest depth that is written of a view; 0 where it knows none."""
    if sense == DepthSense():
        return float(depth_map.depth.max(initial=0))
    return float(sense.values(sense.place(view, depth_map, photo)).max(initial=0))


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
    unit = png_unit(farthest(scene[name], load(name)) for name in names)
    rows = {}
    for done, name in enumerate(names):
        rows[name] = write_depth_view(folder, scene[name], load(name), kinds=kinds, unit=unit)
        if progress is not None:
            progress(done + 1, len(names))
    written = [_path(folder, kind, name) for name in names for kind in kinds]
    return [*written, write_depth_index(folder, rows, unit=unit, metres_per_unit=metres_per_unit)]


def write_depth_view(
    folder: Path,
    view: View,
    depth_map: DepthMap,
    *,
    kinds: Sequence[DepthFile],
    unit: float,
    sense: DepthSense = DepthSense(),
    photo: InputPhoto | None = None,
) -> dict[str, Any]:
    """Writes the files of one view; returns its row in the index. `unit` is what `png_unit` says
    of all views; `photo` is needed for the original grid.

    Raises `UnavailableError` when a kind needs a library that is not installed.
    """
    placed = sense.place(view, depth_map, photo)
    values = sense.values(placed)
    near, far = depth_range(values)
    if sense.original and photo is not None:
        camera = {
            "camera_model": photo.camera_model,
            "camera_params": list(photo.camera_params),
            "photo": photo.name,
            "photo_orientation": photo.orientation,
        }
    else:
        camera = {"K": view.camera.K.tolist()}
    pose = view.cam_from_world
    for kind in kinds:
        path = _path(folder, kind, view.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case DepthFile.NPZ:
                confidence = placed.depth_map.confidence
                np.savez(path, depth=values, confidence=confidence, about=np.array(sense.about))
            case DepthFile.EXR:
                about = {**_meaning(sense), "cam_from_world": pose.tolist(), **camera}
                write_exr(path, _channels(view, depth_map, placed, sense), about)
            case DepthFile.PICTURES:
                picture = Image.fromarray(depth_picture(values, near, far))
                save_picture(picture, path, quality=_JPEG_QUALITY)
            case _:
                about_level = f"; units_per_level: {unit!r}" if kind is DepthFile.PNG16 else ""
                write_depth_file(path, values, png_scale=unit, about=sense.about + about_level)
    height, width = values.shape
    return {
        "width": width,
        "height": height,
        **camera,
        "cam_from_world": pose.tolist(),
        "picture_range": [near, far],
    }


def write_depth_index(
    folder: Path,
    rows: Mapping[str, Any],
    *,
    unit: float,
    metres_per_unit: float | None = None,
    sense: DepthSense = DepthSense(),
) -> Path:
    """Writes `depth.json` from the `rows` of all views, by name; returns its path."""
    index = {
        **_meaning(sense),
        "metres_per_unit": metres_per_unit,
        "png16": {"units_per_level": unit},
        "exr": EXR_CHANNELS,
        "pictures": "colours to look at, turbo over inverse depth within picture_range; not data",
        "views": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INDEX_NAME
    path.write_text(to_json(index, indent=1) + "\n", encoding="utf-8")
    return path


EXR_CHANNELS = {
    "Z": "depth along the optical axis",
    "distance": "depth along the ray, instead of Z",
    "confidence": "0 to 1",
    "N.X N.Y N.Z": "unit normal in world axes, towards the camera",
    "P.X P.Y P.Z": "position in the world, in the unit of depth",
}
"""What EXR files hold; all are 0 where depth is unknown."""


def _meaning(sense: DepthSense) -> dict[str, Any]:
    return {"unit": sense.unit, "unknown": 0, "depth": sense.depth, "grid": sense.grid}


def _channels(
    view: View, depth_map: DepthMap, placed: PlacedDepth, sense: DepthSense
) -> dict[str, NDArray[np.float32]]:
    world_from_cam = view.cam_from_world[:3, :3].T.astype(np.float32)
    normals = normal_map(depth_map.depth, view.camera) @ world_from_cam.T
    return {
        "distance" if sense.ray_depth else "Z": sense.values(placed),
        "confidence": placed.depth_map.confidence,
        "N": placed.carry(normals),
        "P": placed.points(view.cam_from_world),
    }


def _path(folder: Path, kind: DepthFile, name: str) -> Path:
    return folder / kind.value / f"{name}{_SUFFIXES[kind]}"
