"""Two textured planes seen by a row of cameras, with exact depth."""

from pathlib import Path

import numpy as np
from PIL import Image

from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparsePoints, View

WIDTH, HEIGHT, FOCAL = 96, 72, 100.0
FAR, NEAR = 4.0, 2.0  # a wall at z = 4 and a board at z = 2 before its right half (x > 0)
VIEWS = 5


def wall_scene(folder: Path) -> tuple[Scene, dict[str, DepthMap]]:
    """Cameras in a row looking along z, and their exact depth maps."""
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    camera = PinholeCamera(K=K, width=WIDTH, height=HEIGHT)
    points = SparsePoints(
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        track_length=np.zeros(0, np.int64),
    )
    views, maps = [], {}
    for i in range(VIEWS):
        center = np.array([0.2 * (i - 2), 0.0, 0.0])
        name = f"{i}.png"
        x_near = camera.rays()[..., 0] * NEAR + center[0]
        depth = np.where(x_near > 0, NEAR, FAR).astype(np.float32)
        color = np.where(depth == NEAR, 200, 100).astype(np.uint8)
        Image.fromarray(np.stack([color, color, color // 2], axis=-1)).save(folder / name)
        views.append(
            View(
                name=name,
                camera=camera,
                cam_from_world=pose_matrix(np.eye(3), -center),
                point_index=np.zeros(0, np.int64),
                point_xy=np.zeros((0, 2)),
                image_path=folder / name,
            )
        )
        maps[name] = DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))
    return Scene(views, points), maps


def off_surface(points: np.ndarray) -> np.ndarray:
    """Distance along z to the nearer of the two planes."""
    return np.minimum(abs(points[:, 2] - FAR), abs(points[:, 2] - NEAR))


def changed(maps, name, **arrays):
    old = maps[name]
    return {
        **maps,
        name: DepthMap(
            depth=arrays.get("depth", old.depth),
            confidence=arrays.get("confidence", old.confidence),
        ),
    }


def noted(maps):
    """A way to load `maps`, and the list of what was loaded."""
    loads = []

    def load(name):
        loads.append(name)
        return maps[name]

    return load, loads
