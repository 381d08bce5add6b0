"""What structure from motion found, in memory: views, poses and sparse points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, namespace
from refdepth.types.camera import PinholeCamera, camera_center, transform


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedImage:
    """One undistorted photo with its camera and pose, pixels loaded."""

    camera: PinholeCamera
    cam_from_world: NDArray[np.float64]
    """World to camera (4, 4)."""
    image: NDArray[np.uint8] | NDArray[np.float32]
    """RGB (height, width, 3): uint8, or float32 in [0, 1]."""
    mask: NDArray[np.bool_] | None = None
    """True where the photo may be used (height, width); None means everywhere."""

    def __post_init__(self) -> None:
        expected = (*self.camera.shape, 3)
        if self.image.shape != expected or self.image.dtype not in (np.uint8, np.float32):
            raise ValueError(
                f"image must be uint8 or float32 {expected}, not {self.image.dtype} "
                f"{self.image.shape}"
            )
        if self.mask is not None and self.mask.shape != self.camera.shape:
            raise ValueError(f"mask must be {self.camera.shape}, not {self.mask.shape}")

    @property
    def rgb(self) -> NDArray[np.float32]:
        """RGB in [0, 1] (height, width, 3), float32."""
        return in_unit_range(self.image)


def in_unit_range(image: Array) -> Array:
    """Colours (..., 3), uint8 or float32 in [0, 1], as the latter."""
    xp = namespace(image)
    if image.dtype == xp.uint8:
        return xp.astype(image, xp.float32) / 255
    return xp.astype(image, xp.float32, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsePoints:
    """The scene's triangulated points, in world coordinates (SfM units)."""

    xyz: NDArray[np.float64]
    """Positions (N, 3)."""
    rgb: NDArray[np.uint8]
    """Colours (N, 3)."""
    error_px: NDArray[np.float64]
    """Mean reprojection error (N,), pixels."""
    track_length: NDArray[np.int64]
    """Number of observations (N,)."""

    @classmethod
    def empty(cls) -> SparsePoints:
        """No points."""
        return cls(
            xyz=np.zeros((0, 3)),
            rgb=np.zeros((0, 3), np.uint8),
            error_px=np.zeros(0),
            track_length=np.zeros(0, np.int64),
        )

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseDepth:
    """The SfM points that one view sees, in that view's pixels and depth."""

    xy: NDArray[np.float64]
    """Observed pixels (N, 2)."""
    depth: NDArray[np.float64]
    """Depth along the optical axis (N,), SfM units, all positive."""
    error_px: NDArray[np.float64]
    """Mean reprojection error of the point (N,), pixels."""
    track_length: NDArray[np.int64]
    """Number of views that see the point (N,)."""
    point_index: NDArray[np.int64]
    """Row in `SparsePoints` (N,)."""

    def __len__(self) -> int:
        return len(self.depth)

    def select(self, rows: NDArray[np.bool_]) -> SparseDepth:
        """The points where `rows` (N,) is True."""
        return SparseDepth(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One registered, undistorted photo, maybe at a reduced size. `refdepth.io.images` reads its
    pixels."""

    name: str
    """Image name relative to the image folder, forward slashes; unique in the scene."""
    camera: PinholeCamera
    cam_from_world: NDArray[np.float64]
    """World to camera (4, 4)."""
    point_index: NDArray[np.int64]
    """Rows in the scene's `SparsePoints` that this view observes (N,)."""
    point_xy: NDArray[np.float64]
    """Where it observes them (N, 2), pixels."""
    image_path: Path
    """The undistorted photo."""
    mask_path: Path | None = None
    """Picture that is zero where the photo may not be used."""
    reduction: int = 1
    """Pixels of the photo's file, along either side, for one of `camera`."""

    @property
    def center(self) -> NDArray[np.float64]:
        """Camera centre in the world (3,)."""
        return camera_center(self.cam_from_world)


class Scene:
    """Views and points of one reconstruction; read-only."""

    def __init__(self, views: Sequence[View], points: SparsePoints) -> None:
        self.views: tuple[View, ...] = tuple(sorted(views, key=lambda view: view.name))
        self.points = points
        self._by_name = {view.name: view for view in self.views}
        self._rows = {view.name: row for row, view in enumerate(self.views)}
        if len(self._by_name) != len(self.views):
            raise ValueError("two views share a name")

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, name: str) -> View:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def row(self, name: str) -> int:
        """Place of a view in `views`."""
        return self._rows[name]

    @property
    def names(self) -> tuple[str, ...]:
        """View names in order."""
        return tuple(self._by_name)

    @cached_property
    def centers(self) -> NDArray[np.float64]:
        """Camera centres (V, 3) in the order of `views`."""
        return np.array([view.center for view in self.views]).reshape(-1, 3)

    @cached_property
    def camera_tree(self) -> Any:
        """`scipy.spatial.cKDTree` of `centers`."""
        from scipy.spatial import cKDTree

        return cKDTree(self.centers)

    @cached_property
    def observers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which views see a point: those of point `i` are rows `views[start[i] : start[i + 1]]` of
        `self.views`; `start` (N + 1,) and `views` (observations,), each view once a point."""
        seen = [np.unique(view.point_index) for view in self.views]
        points = np.concatenate([*seen, np.zeros(0, np.int64)])
        rows = np.repeat(np.arange(len(self.views)), [len(index) for index in seen])
        start = np.zeros(len(self.points) + 1, np.int64)
        np.cumsum(np.bincount(points, minlength=len(self.points)), out=start[1:])
        return start, rows[np.argsort(points, kind="stable")]

    @property
    def typical_camera(self) -> PinholeCamera:
        """The camera of the picture of middling size."""
        cameras = sorted((view.camera for view in self.views), key=lambda c: c.width * c.height)
        return cameras[len(cameras) // 2]

    def sparse_depth(
        self, view: View, *, max_error_px: float = 2.0, min_track_length: int = 2
    ) -> SparseDepth:
        """The points `view` observes, as depths in it. Points behind the camera, outside the
        picture, with a larger mean reprojection error or a shorter track are left out."""
        index = view.point_index
        z = transform(view.cam_from_world, self.points.xyz[index])[:, 2]
        keep = (
            (z > 0)
            & (self.points.error_px[index] <= max_error_px)
            & (self.points.track_length[index] >= min_track_length)
            & view.camera.contains(view.point_xy)
        )
        index = index[keep]
        return SparseDepth(
            xy=view.point_xy[keep],
            depth=z[keep],
            error_px=self.points.error_px[index],
            track_length=self.points.track_length[index],
            point_index=index,
        )
