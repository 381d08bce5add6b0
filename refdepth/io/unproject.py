"""From a depth map as it is stored to points in the world."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdepth.types.camera import PinholeCamera, invert_pose, transform


def unproject(
    depth: ArrayLike, K: ArrayLike, cam_from_world: ArrayLike, *, ray_depth: bool = False
) -> NDArray[np.float64]:
    """World points (height, width, 3) of a depth map (height, width), in its unit; NaN where the
    depth is unknown (0, negative or NaN).

    `K` (3, 3) has the centre of the first pixel at (0.5, 0.5), as `depth.json` and COLMAP have it;
    `cam_from_world` is (4, 4) or (3, 4), axes x right, y down, z forward. Depth is z along the
    optical axis; with `ray_depth` it is the distance from the camera's centre. Raises `ValueError`
    for other shapes.

    ```python
    index = json.loads(Path("OUT/export/depth/depth.json").read_text())
    view = index["views"]["IMG_0001.jpg"]
    depth = np.load("OUT/export/depth/npz/IMG_0001.jpg.npz")["depth"]
    points = unproject(depth, view["K"], view["cam_from_world"])
    points = points[np.isfinite(points[..., 0])]  # (N, 3)
    ```
    """
    values = np.asarray(depth, dtype=np.float64)
    pose = np.asarray(cam_from_world, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"depth must be (height, width), not {values.shape}")
    if pose.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"cam_from_world must be (4, 4) or (3, 4), not {pose.shape}")
    height, width = values.shape
    rays = PinholeCamera(K=np.asarray(K, dtype=np.float64), width=width, height=height).rays()
    if ray_depth:
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    values = np.where(values > 0, values, np.nan)
    pose = np.vstack([pose[:3], [0, 0, 0, 1]])
    return transform(invert_pose(pose), rays * values[..., None])
