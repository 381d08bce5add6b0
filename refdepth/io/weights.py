"""What a trainer's loss is told of each pixel beside its depth, as 8-bit PNGs of the photo's size:
how sure it is, whether it is known, and the surface's normal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.io.colmap import normal_map
from refdepth.io.depth_files import write_levels
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

CONFIDENCE = "confidence"
DEPTH_MASKS = "depth_masks"
NORMALS = "normals"
ABOUT_WEIGHTS: dict[str, Any] = {
    CONFIDENCE: "level / 255 is the confidence in [0, 1]; 0: depth unknown, known has 1 at least",
    DEPTH_MASKS: "255: depth is known, 0: unknown",
}
"""What the folders hold, for the file that describes an export."""
ABOUT_NORMALS = (
    "unit normals in camera axes (x right, y down, z forward), towards the camera: RGB levels"
    " / 127.5 - 1; black: unknown"
)


def write_weights(folder: Path, view: View, depth_map: DepthMap) -> None:
    """Writes `confidence/NAME.png` and `depth_masks/NAME.png` of a view into `folder`."""
    known = depth_map.valid
    levels = np.clip(np.rint(depth_map.confidence * 255), 1, 255)
    confidence = np.where(known, levels, 0).astype(np.uint8)
    mask = np.where(known, 255, 0).astype(np.uint8)
    write_levels(_path(folder, CONFIDENCE, view), confidence, about=ABOUT_WEIGHTS[CONFIDENCE])
    write_levels(_path(folder, DEPTH_MASKS, view), mask, about=ABOUT_WEIGHTS[DEPTH_MASKS])


def write_normals(folder: Path, view: View, depth_map: DepthMap) -> None:
    """Writes `normals/NAME.png` of a view into `folder`: 8-bit RGB, each level half a degree."""
    normals = normal_map(depth_map.depth, view.camera)
    write_levels(_path(folder, NORMALS, view), normal_levels(normals), about=ABOUT_NORMALS)


def normal_levels(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """8-bit RGB (height, width, 3) of unit normals; black where they are zero, unknown."""
    known = normals.any(axis=-1, keepdims=True)
    return np.where(known, np.rint((normals + 1) * 127.5), 0).astype(np.uint8)


def _path(folder: Path, kind: str, view: View) -> Path:
    path = folder / kind / f"{view.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
