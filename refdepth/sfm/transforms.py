"""Reading `transforms.json` of nerfstudio and instant-ngp."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.ingest.names import checked_name
from refdepth.types.camera import invert_pose

_MOST_BYTES = 256 * 2**20
_ROTATION_TOLERANCE = 1e-2
_FISHEYE_MODELS = ("OPENCV_FISHEYE", "FISHEYE")
_PERSPECTIVE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "FULL_OPENCV")
_GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """A camera as `transforms.json` gives it; lengths in pixels of its `width` x `height`."""

    width: float | None
    height: float | None
    focal_x: float | None
    focal_y: float | None
    angle_x: float | None
    """Horizontal field of view, radians; used where no focal length is given."""
    center_x: float | None
    center_y: float | None
    distortion: tuple[float, float, float, float, float, float]
    """k1, k2, k3, k4, p1, p2."""
    fisheye: bool

    def sized(self, width: int, height: int) -> Intrinsics:
        """The same for a photo of `width` x `height`: where no size is given, that is what the
        lengths refer to; where one side is, the other has the photo's aspect."""
        if self.width is not None:
            return replace(self, height=self.height or self.width * height / width)
        return replace(
            self, width=(self.height or height) * width / height, height=self.height or height
        )

    def colmap(self, width: int, height: int) -> tuple[str, list[float]]:
        """COLMAP's model name and parameters for a picture of `width` x `height`.

        Raises `InputError` when no focal length is known or the distortion has no COLMAP model.
        """
        own_width, own_height = self.width or width, self.height or height
        sx, sy = width / own_width, height / own_height
        if self.focal_x is not None:
            fx = self.focal_x
        elif self.angle_x is not None:
            fx = own_width / 2 / math.tan(max(self.angle_x, 1e-6) / 2)
        else:
            raise InputError(
                "no focal length (fl_x or camera_angle_x).",
                action="Give the intrinsics at the top of the file or in each frame.",
            )
        fy = self.focal_y if self.focal_y is not None else fx
        cx = own_width / 2 if self.center_x is None else self.center_x
        cy = own_height / 2 if self.center_y is None else self.center_y
        pinhole = [fx * sx, fy * sy, cx * sx, cy * sy]
        k1, k2, k3, k4, p1, p2 = self.distortion
        if self.fisheye:
            return "OPENCV_FISHEYE", [*pinhole, k1, k2, k3, k4]
        if k4:
            raise InputError("k4 of a perspective lens is not supported.")
        if k3:
            return "FULL_OPENCV", [*pinhole, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0]
        if k1 or k2 or p1 or p2:
            return "OPENCV", [*pinhole, k1, k2, p1, p2]
        return "PINHOLE", pinhole


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedFrame:
    """One frame of a `transforms.json`."""

    name: str
    """File name as given, relative."""
    cam_from_world: NDArray[np.float64]
    """World to camera (4, 4), OpenCV axes."""
    intrinsics: Intrinsics


def read_transforms(path: Path) -> list[PosedFrame]:
    """Frames of a `transforms.json`: camera-to-world poses with OpenGL axes (x right, y up, z
    back), intrinsics shared or per frame.

    Raises `InputError` naming the field when the file is unreadable, a pose is singular,
    left-handed or no rotation, or a name leads out of the folder.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("larger than 256 MB.", subject=path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}).", subject=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error}).", subject=path) from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError("has no list `frames`.", subject=path)
    read = []
    for index, frame in enumerate(frames):
        place = f"{path}: frames[{index}]"
        if not isinstance(frame, dict):
            raise InputError("is no object.", subject=place)
        name = frame.get("file_path")
        if not isinstance(name, str):
            raise InputError("has no file_path.", subject=place)
        checked_name(name)
        read.append(
            PosedFrame(
                name=name,
                cam_from_world=_read_pose(frame.get("transform_matrix"), place),
                intrinsics=_read_intrinsics({**content, **frame}, place),
            )
        )
    return read


def _read_pose(value: Any, place: str) -> NDArray[np.float64]:
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError("transform_matrix must be 4x4 finite numbers.", subject=place)
    rotation = matrix[:3, :3]
    determinant = float(np.linalg.det(rotation))
    if not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise InputError("the last row of transform_matrix must be 0 0 0 1.", subject=place)
    if abs(determinant) < 1e-6:
        raise InputError("transform_matrix is singular.", subject=place)
    if determinant < 0:
        raise InputError(
            "transform_matrix is left-handed (mirrored).",
            subject=place,
            action="Export poses without flipping a single axis.",
        )
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _ROTATION_TOLERANCE:
        raise InputError(
            "transform_matrix holds no rotation (scaled or sheared axes).", subject=place
        )
    u, _, vt = np.linalg.svd(rotation)
    matrix[:3, :3] = u @ vt
    return invert_pose(matrix @ _GL_FROM_CV)


def _read_intrinsics(fields: Mapping[str, Any], place: str) -> Intrinsics:
    def number(name: str, *, positive: bool = False) -> float | None:
        value = fields.get(name)
        if value is None:
            return None
        wrong = isinstance(value, bool) or not isinstance(value, int | float)
        if wrong or not abs(value) < 1e9 or (positive and value <= 0):
            kind = "a positive number" if positive else "a number"
            raise InputError(f"{name} must be {kind}, not {str(value)[:40]}.", subject=place)
        return float(value)

    model = fields.get("camera_model", "OPENCV")
    if model not in (*_FISHEYE_MODELS, *_PERSPECTIVE_MODELS):
        raise InputError(
            f"camera_model {str(model)[:40]} is not supported.",
            subject=place,
            action="Use a perspective or OPENCV_FISHEYE camera.",
        )
    angle = number("camera_angle_x", positive=True)
    if angle is not None and angle >= math.pi:
        raise InputError(f"camera_angle_x must be under pi, not {angle:g}.", subject=place)
    k1, k2, k3, k4, p1, p2 = (number(name) or 0.0 for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    return Intrinsics(
        width=number("w", positive=True),
        height=number("h", positive=True),
        focal_x=number("fl_x", positive=True),
        focal_y=number("fl_y", positive=True),
        angle_x=angle,
        center_x=number("cx"),
        center_y=number("cy"),
        distortion=(k1, k2, k3, k4, p1, p2),
        fisheye=model in _FISHEYE_MODELS or bool(fields.get("is_fisheye")),
    )
