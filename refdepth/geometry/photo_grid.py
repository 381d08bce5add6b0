"""A view's maps on the grid of its undistorted photo, or on that of the photo before undistortion,
as z or along the rays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import strips
from refdepth.geometry.lens import InputPhoto, lens_slopes
from refdepth.types.camera import invert_pose, transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

Map = NDArray[np.float32]

_SAME_SURFACE = 0.02
"""Largest relative step of depth between four pixels that is interpolated across."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedDepth:
    """The depth map of a view on one of its grids, and where each pixel looks."""

    depth_map: DepthMap
    """Depth along the optical axis (height, width), SfM units, 0 unknown, and its confidence."""
    slopes: Map
    """x / z and y / z of each pixel's ray in camera axes (height, width, 2); NaN where the lens
    model has none."""
    pixels: NDArray[np.int32] | None = None
    """Row and column of the nearest pixel of the undistorted photo (height, width, 2), -1 outside;
    None where this is its grid."""

    @property
    def ray_depth(self) -> Map:
        """Distance from the camera's centre along each ray (height, width), SfM units, 0 unknown:
        depth times the length of (x / z, y / z, 1)."""
        length = np.sqrt(1 + np.einsum("hwi,hwi->hw", self.slopes, self.slopes))
        zero = np.float32(0)
        return np.where(self.depth_map.valid, self.depth_map.depth * length, zero)

    def points(self, cam_from_world: NDArray[np.float64]) -> Map:
        """World positions (height, width, 3), SfM units; 0 where depth is unknown."""
        world_from_cam, depth = invert_pose(cam_from_world), self.depth_map.depth
        out = np.zeros((*depth.shape, 3), np.float32)
        for rows in strips(len(depth)):
            known = depth[rows] > 0
            rays = np.pad(self.slopes[rows][known], ((0, 0), (0, 1)), constant_values=1)
            out[rows][known] = transform(world_from_cam, rays * depth[rows][known][:, None])
        return out

    def carry(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the undistorted photo's pixels (height, width, ...) on this grid, each from the
        nearest pixel; 0 where depth is unknown."""
        if self.pixels is None:
            carried = values
        else:
            row, column = np.moveaxis(np.maximum(self.pixels, 0), -1, 0)
            carried = values[row, column]
        known = self.depth_map.valid[..., None] if values.ndim == 3 else self.depth_map.valid
        return np.where(known, carried, values.dtype.type(0))


def on_undistorted(view: View, depth_map: DepthMap) -> PlacedDepth:
    """A view's depth map where it is: on the grid of the undistorted photo."""
    camera, K = view.camera, view.camera.K
    slopes = np.empty((*camera.shape, 2), np.float32)
    y = (np.arange(camera.height)[:, None] + 0.5 - K[1, 2]) / K[1, 1]
    slopes[..., 0] = (np.arange(camera.width) + 0.5 - K[0, 2] - K[0, 1] * y) / K[0, 0]
    slopes[..., 1] = y
    return PlacedDepth(depth_map=depth_map, slopes=slopes)


def on_original(view: View, depth_map: DepthMap, photo: InputPhoto) -> PlacedDepth:
    """A view's depth map on the grid of the upright photo with lens distortion.

    Undistortion keeps centre and axes of the camera, so depth keeps its meaning. Inverse depth,
    which is linear in the pixels of a plane, is interpolated between four pixels of one surface;
    at steps and borders the nearest pixel's depth stands. Unknown outside the undistorted photo.
    """
    shape = photo.height, photo.width
    slopes = _slopes_of(photo)
    depth, confidence = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    pixels = np.full((*shape, 2), -1, np.int32)
    for rows in strips(photo.height):
        rays = np.dstack([slopes[rows], np.ones_like(slopes[rows, :, 0])])
        xy, _ = view.camera.project(rays)
        inside = view.camera.contains(xy)
        nearest = np.floor(xy[inside]).astype(np.int32)[:, ::-1]
        pixels[rows][inside] = nearest
        confidence[rows][inside] = depth_map.confidence[nearest[:, 0], nearest[:, 1]]
        depth[rows][inside] = sample_depth(depth_map.depth, xy[inside])
    placed = DepthMap(depth=depth, confidence=confidence)
    return PlacedDepth(depth_map=placed.within(depth > 0), slopes=slopes, pixels=pixels)


def sample_depth(depth: Map, xy: NDArray[np.float64]) -> Map:
    """Depth (N,) of a map (height, width) at pixels `xy` (N, 2) inside it. Between four pixels of
    one surface inverse depth, which is linear there, is interpolated, else the nearest pixel's
    depth stands."""
    height, width = depth.shape
    nearest = np.floor(xy).astype(np.intp)
    found = depth[nearest[:, 1], nearest[:, 0]]
    x, y = xy[:, 0] - 0.5, xy[:, 1] - 0.5
    left = np.clip(np.floor(x), 0, max(width - 2, 0)).astype(np.intp)
    top = np.clip(np.floor(y), 0, max(height - 2, 0)).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = x - left, y - top
    corners = np.stack(
        [depth[top, left], depth[top, right], depth[bottom, left], depth[bottom, right]]
    )
    within = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    low, high = corners.min(axis=0), corners.max(axis=0)
    one = within & (low > 0) & (high <= low * (1 + _SAME_SURFACE))
    inverse = 1 / corners[:, one].astype(np.float64)
    u, v = u[one], v[one]
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    out = found.copy()
    out[one] = 1 / (weights * inverse).sum(axis=0)
    return out


def _slopes_of(photo: InputPhoto) -> Map:
    slopes = np.empty((photo.height, photo.width, 2), np.float32)
    x = np.arange(photo.width) + 0.5
    for rows in strips(photo.height):
        xy = np.stack(np.meshgrid(x, np.arange(rows.start, rows.stop) + 0.5), axis=-1)
        slopes[rows] = lens_slopes(photo, xy.reshape(-1, 2)).reshape(xy.shape)
    return slopes
