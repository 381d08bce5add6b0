"""Pinhole cameras and rigid poses.

Axes as in COLMAP and OpenCV: x right, y down, z forward. Pixel coordinates: x right, y down, the
centre of the first pixel is (0.5, 0.5). Depth is z along the optical axis; 0 means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PinholeCamera:
    """A camera without lens distortion."""

    K: Array
    """Calibration matrix (3, 3), pixels; the centre of the first pixel is (0.5, 0.5)."""
    width: int
    """Image width, pixels."""
    height: int
    """Image height, pixels."""

    def __post_init__(self) -> None:
        K = np.array(self.K, dtype=np.float64, order="C")  # one type to the kernels
        if K.shape != (3, 3):
            raise ValueError(f"K must be (3, 3), not {K.shape}")
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise ValueError(f"K must be finite with positive focal lengths, not {K.tolist()}")
        if not np.array_equal(K[2], [0, 0, 1]) or K[1, 0] != 0:
            raise ValueError(f"K must be upper triangular with K[2, 2] = 1, not {K.tolist()}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image size must be positive, not {self.width}x{self.height}")
        K.setflags(write=False)
        object.__setattr__(self, "K", K)

    @property
    def shape(self) -> tuple[int, int]:
        """Array shape of the image: (height, width)."""
        return self.height, self.width

    @property
    def mean_focal_px(self) -> float:
        """Mean of the two focal lengths, pixels."""
        return float(self.K[0, 0] + self.K[1, 1]) / 2

    def pixel_grid(self) -> Array:
        """Pixel centres (height, width, 2): x + 0.5, y + 0.5."""
        x = np.arange(self.width) + 0.5
        y = np.arange(self.height) + 0.5
        return np.stack(np.meshgrid(x, y), axis=-1)

    def rays(self, xy: ArrayLike | None = None) -> Array:
        """Viewing rays (..., 3) with z = 1 through pixels `xy` (..., 2), or through every pixel
        centre (height, width, 3)."""
        xy = self.pixel_grid() if xy is None else np.asarray(xy, dtype=np.float64)
        y = (xy[..., 1] - self.K[1, 2]) / self.K[1, 1]
        x = (xy[..., 0] - self.K[0, 2] - self.K[0, 1] * y) / self.K[0, 0]
        return np.stack([x, y, np.ones_like(x)], axis=-1)

    def unproject(self, depth: ArrayLike, xy: ArrayLike | None = None) -> Array:
        """Points in camera space (..., 3) at `depth` (...,) on the rays through `xy` (..., 2), or
        through every pixel centre when `xy` is not given (`depth` then (height, width))."""
        return self.rays(xy) * np.asarray(depth, dtype=np.float64)[..., None]

    def project(self, points: ArrayLike) -> tuple[Array, Array]:
        """Pixels (..., 2) and depths (...,) of camera-space points (..., 3). Points with z <= 0
        get NaN pixels."""
        points = np.asarray(points, dtype=np.float64)
        q = points @ self.K.T
        z = points[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = q[..., :2] / z[..., None]
        xy[~(z > 0)] = np.nan
        return xy, z

    def contains(self, xy: ArrayLike) -> NDArray[np.bool_]:
        """Which pixels `xy` (..., 2) lie inside the picture; NaN lies outside."""
        xy = np.asarray(xy)
        x, y = xy[..., 0], xy[..., 1]
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)


def pose_matrix(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """4x4 matrix from a rotation (3, 3) and a translation (3,)."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = translation
    return pose


def invert_pose(b_from_a: ArrayLike) -> Array:
    """`a_from_b` of a rigid 4x4 `b_from_a`."""
    b_from_a = np.asarray(b_from_a, dtype=np.float64)
    rotation = b_from_a[:3, :3].T
    return pose_matrix(rotation, -rotation @ b_from_a[:3, 3])


def relative_pose(b_from_world: ArrayLike, a_from_world: ArrayLike) -> Array:
    """`b_from_a` of two cameras' 4x4 `cam_from_world`."""
    return np.asarray(b_from_world, dtype=np.float64) @ invert_pose(a_from_world)


def transform(b_from_a: ArrayLike, points: ArrayLike) -> Array:
    """Points (..., 3) moved by a 4x4 `b_from_a`."""
    b_from_a = np.asarray(b_from_a, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ b_from_a[:3, :3].T + b_from_a[:3, 3]


def camera_center(cam_from_world: ArrayLike) -> Array:
    """The camera's place in the world (3,)."""
    return invert_pose(cam_from_world)[:3, 3]


def projection_from_ref(
    ref: PinholeCamera, source: PinholeCamera, source_from_ref: ArrayLike
) -> tuple[Array, Array]:
    """(A, b) with homogeneous source pixels q = A @ (x, y, 1) * z + b for ref pixel (x, y) at
    depth z: A = K_s R K_r^-1 (3, 3), b = K_s t (3,)."""
    source_from_ref = np.asarray(source_from_ref, dtype=np.float64)
    A = source.K @ source_from_ref[:3, :3] @ np.linalg.inv(ref.K)
    return A, source.K @ source_from_ref[:3, 3]
