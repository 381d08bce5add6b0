"""OpenMVS's depth maps (`.dmap`): depth, normals and confidence of a view with its camera.

The layout `DR` of OpenMVS up to 2.3 (`ExportDepthDataRaw` in its `libs/MVS`), little-endian:

    char[2] "DR"; uint8 type: 1 depth | 2 normals | 4 confidence; uint8 padding
    uint32 image width, image height, map width, map height; float32 smallest, largest depth
    uint16 length, char[] path of the image from the file's folder
    uint32 count, uint32[] image ids: the view's own, then its neighbours'
    float64 K[3][3], R[3][3], C[3]: the centre of the first pixel is (0, 0); R is cam_from_world
    float32 depth[height][width], normal[height][width][3] in camera axes, confidence[height][width]
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refdepth.errors import InputError
from refdepth.io.colmap import normal_map
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

_DEPTH, _NORMALS, _CONFIDENCE = 1, 2, 4
_MOST_IDS = 255


def dmap_name(image_id: int) -> str:
    """What OpenMVS calls the depth map of an image."""
    return f"depth{image_id:04d}.dmap"


def write_dmap(
    path: Path, view: View, depth_map: DepthMap, *, image: str, image_ids: Sequence[int]
) -> None:
    """Writes the maps of a view; 0 is unknown in all. `image` is the photo's path from the folder
    of `path`; `image_ids` are the view's own and its neighbours', best first.

    Raises `InputError` where the view knows no depth: OpenMVS takes no such file.
    """
    known = depth_map.depth[depth_map.valid]
    if not known.size:
        raise InputError(
            "has no depth to export.",
            subject=view.name,
            action="Lower --min-confidence, or leave out --consistent.",
        )
    K = view.camera.K.copy()
    K[:2, 2] -= 0.5
    width, height = view.camera.width, view.camera.height
    normals = normal_map(depth_map.depth, view.camera)
    text = image.encode()
    with path.open("wb") as file:
        file.write(b"DR" + bytes([_DEPTH | _NORMALS | _CONFIDENCE, 0]))
        file.write(struct.pack("<4I", width, height, width, height))
        file.write(struct.pack("<2f", known.min(), known.max()))
        file.write(struct.pack("<H", len(text)) + text)
        ids = np.asarray(image_ids[:_MOST_IDS], "<u4")
        file.write(struct.pack("<I", len(ids)) + ids.tobytes())
        for matrix in (K, view.cam_from_world[:3, :3], view.center):
            file.write(np.ascontiguousarray(matrix, "<f8").tobytes())
        for values in (depth_map.depth, normals, depth_map.confidence):
            file.write(np.ascontiguousarray(values, "<f4").tobytes())
