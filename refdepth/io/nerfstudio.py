"""`transforms.json` with depth, as nerfstudio's data parser reads it.

Cameras are in OpenGL axes (x right, y up, z backwards). The world is turned like nerfstudio's own
COLMAP converter turns it (x, z, -y), and the turn is written down as `applied_transform`. Lengths
stay in SfM units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.io.colmap import copy_image, copy_mask, mask_name
from refdepth.io.depth_files import write_depth_file
from refdepth.io.depth_sets import DepthSense, farthest, png_unit
from refdepth.io.json_text import to_json
from refdepth.io.ply import write_ply
from refdepth.io.weights import (
    ABOUT_NORMALS,
    ABOUT_WEIGHTS,
    CONFIDENCE,
    NORMALS,
    write_normals,
    write_weights,
)
from refdepth.types.camera import invert_pose
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

APPLIED_TRANSFORM = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])
"""Nerfstudio's world from ours (3, 4)."""
POINTS_NAME = "points.ply"


def write_nerfstudio(
    folder: Path,
    scene: Scene,
    load: Callable[[str], DepthMap],
    *,
    names: Sequence[str] | None = None,
    cloud: PointCloud | None = None,
    metres_per_unit: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes images, masks, 16-bit depth PNGs, normals, weights and `transforms.json`; returns the
    files that it names.

    One `depth_unit_scale_factor` for all views turns PNG values into SfM units (0 = unknown); the
    step is the largest depth over 65535. `names` are the views with depth (default: all); others
    are left out, because nerfstudio wants depth for every frame or for none. `cloud`, in our
    world, becomes the initial points.
    """
    names = scene.names if names is None else names
    unit = png_unit(farthest(scene[name], load(name)) for name in names)
    written: list[Path] = []
    frames = []
    for done, name in enumerate(names):
        frames.append(write_frame(folder, scene[name], load(name), unit=unit))
        written += [folder / value for key, value in frames[-1].items() if key.endswith("_path")]
        if progress is not None:
            progress(done + 1, len(names))
    return written + write_transforms(
        folder, frames, unit=unit, cloud=cloud, metres_per_unit=metres_per_unit
    )


def write_frame(folder: Path, view: View, depth_map: DepthMap, *, unit: float) -> dict[str, Any]:
    """Writes photo, mask, depth image, normals and weights of one view; returns its entry in
    `transforms.json`. `unit` is what `png_unit` says of all views."""
    copy_image(view, folder / "images")
    copy_mask(view, folder / "masks")
    path = folder / "depths" / f"{view.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = f"{DepthSense().about}; units_per_level: {unit!r}"
    write_depth_file(path, depth_map.depth, png_scale=unit, about=about)
    write_normals(folder, view, depth_map)
    write_weights(folder, view, depth_map)
    return frame(view) | {
        "depth_file_path": f"depths/{view.name}.png",
        "normal_file_path": f"{NORMALS}/{view.name}.png",
        "confidence_file_path": f"{CONFIDENCE}/{view.name}.png",
    }


def write_transforms(
    folder: Path,
    frames: Sequence[Mapping[str, Any]],
    *,
    unit: float,
    cloud: PointCloud | None = None,
    metres_per_unit: float | None = None,
) -> list[Path]:
    """Writes `transforms.json` from the entries of all views, and `cloud`, in our world, as its
    initial points; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "camera_model": "PINHOLE",
        "applied_transform": APPLIED_TRANSFORM.tolist(),
        "applied_scale": 1.0,
        "depth_unit_scale_factor": unit,
        "depth": DepthSense().about,
        **ABOUT_WEIGHTS,
        NORMALS: ABOUT_NORMALS,
        "metres_per_unit": metres_per_unit,
        "frames": frames,
    }
    written = []
    if cloud is not None:
        path = folder / POINTS_NAME
        write_ply(path, turned(cloud, APPLIED_TRANSFORM[:, :3]))
        document["ply_file_path"] = POINTS_NAME
        written.append(path)
    path = folder / "transforms.json"
    path.write_text(to_json(document, indent=1) + "\n", encoding="utf-8")
    return [*written, path]


def turned(cloud: PointCloud, rotation: NDArray[np.float64]) -> PointCloud:
    """The cloud in a world turned by `rotation` (3, 3)."""
    return replace(
        cloud,
        points=(cloud.points.astype(np.float64) @ rotation.T).astype(cloud.points.dtype),
        normals=(cloud.normals.astype(np.float64) @ rotation.T).astype(np.float32),
    )


def frame(view: View) -> dict[str, Any]:
    """The entry of one view: intrinsics in pixels and the camera's pose in nerfstudio's world."""
    camera = view.camera
    world_from_cam = invert_pose(view.cam_from_world)
    world_from_cam[:3, 1:3] *= -1
    turn = np.vstack([APPLIED_TRANSFORM, [0, 0, 0, 1]])
    entry: dict[str, Any] = {
        "file_path": f"images/{view.name}",
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(camera.K[0, 0]),
        "fl_y": float(camera.K[1, 1]),
        "cx": float(camera.K[0, 2]),
        "cy": float(camera.K[1, 2]),
        "transform_matrix": (turn @ world_from_cam).tolist(),
    }
    if view.mask_path is not None:
        entry["mask_path"] = f"masks/{mask_name(view)}"
    return entry
