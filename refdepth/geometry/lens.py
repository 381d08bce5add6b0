"""From the undistorted grid of a view back into the photo as it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import PinholeCamera

Array = NDArray[np.float64]

_SAME_PIXEL = 0.01
"""Furthest that a pixel may come back from its ray and its ray be believed, pixels."""


@dataclass(frozen=True, kw_only=True)
class InputPhoto:
    """A photo as it was given, and the camera SfM found for it."""

    name: str
    """Path of the photo relative to the photo folder, forward slashes."""
    camera_model: str
    """COLMAP camera model, such as `SIMPLE_RADIAL`."""
    width: int
    """Width of the upright photo that the camera belongs to, pixels."""
    height: int
    camera_params: tuple[float, ...]
    """COLMAP's parameters of that model, pixels."""
    orientation: int = 1
    """EXIF orientation (1 to 8) of the file as given."""


def undistorted_pixels(view: PinholeCamera, photo: InputPhoto, xy: Array) -> Array:
    """Where pixels `xy` (N, 2) of an upright input photo, at the size its camera has, lie in the
    undistorted view (N, 2), maybe outside its picture; NaN where the lens model does not reach."""
    slopes = lens_slopes(photo, xy)
    return view.project(np.pad(slopes, ((0, 0), (0, 1)), constant_values=1))[0]


def lens_slopes(photo: InputPhoto, xy: Array) -> Array:
    """x / z and y / z of the rays (N, 2) through pixels `xy` (N, 2) of an upright input photo; NaN
    where the lens model does not reach, or the ray does not go forward as in the outer parts of a
    fisheye's picture."""
    camera, xy = _lens_camera(photo), np.asarray(xy, np.float64)
    slopes = np.asarray(camera.cam_from_img(xy), dtype=np.float64).reshape(-1, 2)
    # Where there is no such ray, pycolmap returns something that is of another pixel.
    again = camera.img_from_cam(np.pad(slopes, ((0, 0), (0, 1)), constant_values=1))
    with np.errstate(invalid="ignore"):
        astray = ~(np.abs(np.asarray(again) - xy).max(axis=1, initial=0) < _SAME_PIXEL)
    slopes[astray] = np.nan
    return slopes


def input_pixels(view: PinholeCamera, photo: InputPhoto) -> Array:
    """Where each pixel centre of an undistorted view lies in the upright input photo (H, W, 2),
    pixels of the photo at the size its camera has; NaN where the lens model does not reach."""
    xy = _lens_camera(photo).img_from_cam(view.rays().reshape(-1, 3))
    return np.asarray(xy, dtype=np.float64).reshape(*view.shape, 2)


def _lens_camera(photo: InputPhoto) -> Any:
    """The `pycolmap.Camera` of an input photo."""
    from refdepth._pycolmap import pycolmap

    return pycolmap.Camera(
        model=photo.camera_model,
        width=photo.width,
        height=photo.height,
        params=list(photo.camera_params),
    )


def sample_map(values: NDArray[np.floating], xy: Array) -> NDArray[np.float32]:
    """Bilinear samples (...,) of a map (H, W) at pixels `xy` (..., 2), pixel centres at 0.5.

    Unknown (NaN) neighbours are left out of the mean; a pixel outside the map, or whose nearest
    neighbour is unknown, is unknown. The outer half pixel continues its border's value.
    """
    height, width = values.shape
    with np.errstate(invalid="ignore"):
        inside = (xy[..., 0] >= 0) & (xy[..., 0] <= width)
        inside &= (xy[..., 1] >= 0) & (xy[..., 1] <= height)
    x = np.clip(np.where(inside, xy[..., 0], 0) - 0.5, 0, width - 1)
    y = np.clip(np.where(inside, xy[..., 1], 0) - 0.5, 0, height - 1)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = x - left, y - top
    known = np.isfinite(values)
    filled = np.where(known, values, 0).astype(np.float64)
    total, share = np.zeros(x.shape), np.zeros(x.shape)
    for row, column, weight in (
        (top, left, (1 - u) * (1 - v)),
        (top, right, u * (1 - v)),
        (bottom, left, (1 - u) * v),
        (bottom, right, u * v),
    ):
        total += weight * filled[row, column]
        share += weight * known[row, column]
    nearest = known[np.where(v > 0.5, bottom, top), np.where(u > 0.5, right, left)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(inside & nearest, total / share, np.nan).astype(np.float32)


def turn_upright(values: NDArray[np.floating], orientation: int) -> NDArray[np.floating]:
    """A map (H, W) in the grid of a file as stored, turned as EXIF `orientation` says."""
    if orientation in (2, 4, 5, 7):
        values = values[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(values, quarter_turns)
