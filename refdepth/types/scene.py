"""What structure from motion found, in memory: views, poses and sparse points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.types.camera import PinholeCamera, camera_center, transform


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedImage:
    """One undistorted photo with its camera and pose, pixels loaded."""

    camera: PinholeCamera
    cam_from_world: NDArray[np.float64]
    """World to camera (4, 4)."""
    image: NDArray[np.float32]
    """RGB in [0, 1] (height, width, 3)."""
    mask: NDArray[np.bool_] | None = None
    """True where the photo may be used (height, width); None means everywhere."""

    def __post_init__(self) -> None:
        expected = (*self.camera.shape, 3)
        if self.image.shape != expected or self.image.dtype != np.float32:
            raise ValueError(
                f"image must be float32 {expected}, not {self.image.dtype} {self.image.shape}"
            )
        if self.mask is not None and self.mask.shape != self.camera.shape:
            raise ValueError(f"mask must be {self.camera.shape}, not {self.mask.shape}")


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


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One registered, undistorted photo. Pixels are read when asked for."""

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

    @property
    def center(self) -> NDArray[np.float64]:
        """Camera centre in the world (3,)."""
        return camera_center(self.cam_from_world)

    def load(self) -> PosedImage:
        """Reads the photo (and mask).

        Raises `InputError` when it cannot be read or has another size than the camera.
        """
        from refdepth.io.images import read_rgb

        image = read_rgb(self.image_path)
        if image.shape[:2] != self.camera.shape:
            raise InputError(
                f"photo is {image.shape[1]}x{image.shape[0]}, its camera "
                f"{self.camera.width}x{self.camera.height}.",
                subject=self.image_path,
                action="Give the pictures that belong to the model.",
            )
        return PosedImage(
            camera=self.camera,
            cam_from_world=self.cam_from_world,
            image=image,
            mask=self.load_mask(),
        )

    def load_mask(self) -> NDArray[np.bool_] | None:
        """Where the photo may be used (height, width); None where it has no mask.

        Raises `InputError` when it cannot be read or has another size than the camera.
        """
        from refdepth.io.images import read_mask

        return None if self.mask_path is None else read_mask(self.mask_path, self.camera.shape)


class Scene:
    """Views and points of one reconstruction; read-only."""

    def __init__(self, views: Sequence[View], points: SparsePoints) -> None:
        self.views: tuple[View, ...] = tuple(sorted(views, key=lambda view: view.name))
        self.points = points
        self._by_name = {view.name: view for view in self.views}
        if len(self._by_name) != len(self.views):
            raise ValueError("two views share a name")

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, name: str) -> View:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """View names in order."""
        return tuple(self._by_name)

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

    @classmethod
    def from_reconstruction(
        cls, reconstruction: Any, image_dir: Path, mask_dir: Path | None = None
    ) -> Scene:
        """A scene from an undistorted `pycolmap.Reconstruction` (PINHOLE or SIMPLE_PINHOLE
        cameras) whose pictures lie in `image_dir`, masks as `NAME.png` in `mask_dir`.

        Raises `InputError` when a camera has lens distortion or no view is registered.
        """
        rows = {point_id: row for row, point_id in enumerate(sorted(reconstruction.points3D))}
        points3d = [reconstruction.points3D[point_id] for point_id in rows]
        points = SparsePoints(
            xyz=np.array([p.xyz for p in points3d], dtype=np.float64).reshape(-1, 3),
            rgb=np.array([p.color for p in points3d], dtype=np.uint8).reshape(-1, 3),
            error_px=np.array([p.error for p in points3d], dtype=np.float64),
            track_length=np.array([p.track.length() for p in points3d], dtype=np.int64),
        )
        views = []
        for image in reconstruction.images.values():
            if not image.has_pose:
                continue
            camera = reconstruction.cameras[image.camera_id]
            if camera.model.name not in ("PINHOLE", "SIMPLE_PINHOLE"):
                raise InputError(
                    f"camera {image.camera_id} is {camera.model.name}, not undistorted.",
                    subject=image.name,
                    action="Undistort the model first (the sfm stage does).",
                )
            seen = [p for p in image.points2D if p.has_point3D()]
            mask_path = None if mask_dir is None else mask_dir / f"{image.name}.png"
            views.append(
                View(
                    name=image.name,
                    camera=PinholeCamera(
                        K=camera.calibration_matrix(), width=camera.width, height=camera.height
                    ),
                    cam_from_world=np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]),
                    point_index=np.array([rows[p.point3D_id] for p in seen], dtype=np.int64),
                    point_xy=np.array([p.xy for p in seen], dtype=np.float64).reshape(-1, 2),
                    image_path=image_dir / image.name,
                    mask_path=mask_path if mask_path and mask_path.exists() else None,
                )
            )
        if not views:
            raise InputError("the model has no registered view.", subject=image_dir)
        return cls(views, points)

    @classmethod
    def from_colmap(cls, model_dir: Path, image_dir: Path, mask_dir: Path | None = None) -> Scene:
        """A scene from an undistorted COLMAP model folder (text or binary).

        Raises `InputError` when the model cannot be read.
        """
        from refdepth._pycolmap import pycolmap

        try:
            reconstruction = pycolmap.Reconstruction(str(model_dir))
        except Exception as error:
            raise InputError(
                f"not a COLMAP model that can be read ({str(error).splitlines()[0]}).",
                subject=model_dir,
                action="Give a folder with cameras, images and points3D (.bin or .txt).",
            ) from error
        return cls.from_reconstruction(reconstruction, Path(image_dir), mask_dir)
