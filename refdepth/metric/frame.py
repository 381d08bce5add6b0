"""A reconstruction in metres, with z up where up is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdepth.types.camera import invert_pose, pose_matrix
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparsePoints, View

Array = NDArray[np.float64]

_AGREEING_UPS = 0.8
"""Length of the mean of the cameras' up directions below which they say nothing together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricFrame:
    """A similarity from world coordinates in SfM units to metres."""

    scale: float
    """Metres in a unit."""
    rotation: Array
    """Metric axes from world axes (3, 3)."""
    translation: Array
    """Where the world's origin lies (3,), metres."""

    @property
    def matrix(self) -> Array:
        """metric_from_world (4, 4): scale times rotation, and translation."""
        return pose_matrix(self.scale * self.rotation, self.translation)

    def points(self, points: ArrayLike) -> Array:
        """World points (..., 3) in metres."""
        points = np.asarray(points, np.float64)
        return self.scale * points @ self.rotation.T + self.translation

    def view(self, view: View) -> View:
        """A view with its pose in this frame; depth in it is in metres."""
        world_from_cam = invert_pose(view.cam_from_world)
        moved = pose_matrix(self.rotation @ world_from_cam[:3, :3], self.points(view.center))
        return replace(view, cam_from_world=invert_pose(moved))

    def scene(self, scene: Scene) -> Scene:
        """All views and points in this frame."""
        points = SparsePoints(**{**vars(scene.points), "xyz": self.points(scene.points.xyz)})
        return Scene([self.view(view) for view in scene.views], points)

    def depth(self, found: DepthMap) -> DepthMap:
        """A depth map in metres."""
        return replace(found, depth=found.depth * np.float32(self.scale))

    def cloud(self, cloud: PointCloud) -> PointCloud:
        """A cloud in this frame."""
        normals = cloud.normals.astype(np.float64) @ self.rotation.T
        return replace(
            cloud,
            points=self.points(cloud.points).astype(cloud.points.dtype),
            normals=normals.astype(np.float32),
        )


def cameras_up(scene: Scene) -> Array | None:
    """World direction (3,) of the cameras' median up: a first guess at where up is, right for
    photos that are mostly held level. None where the cameras are turned all ways."""
    ups = np.array([-view.cam_from_world[1, :3] for view in scene.views]).reshape(-1, 3)
    if not len(ups) or np.linalg.norm(ups.mean(axis=0)) < _AGREEING_UPS:
        return None
    up = np.median(ups, axis=0)
    return np.asarray(up / np.linalg.norm(up), np.float64)


def levelled(up: Array) -> Array:
    """A rotation (3, 3) that makes the world direction `up` (3,) the z axis and turns as little as
    it can otherwise."""
    z = np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(up, z), float(up @ z)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
