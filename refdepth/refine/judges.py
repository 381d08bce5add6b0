"""SfM points that judge a scene's confidence: a share of them is kept from the refinement, and of
those the ones count whose own depth is certain enough."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from refdepth.types.scene import Scene, SparseDepth, View

Array = NDArray[np.float64]
LEAST_POINTS = 200
"""Scenes with fewer SfM points need all of them: none is left out."""
MOST_UNCERTAIN = 0.01
"""Standard deviation of a judge's depth, as a share of the depth, at an error of one pixel: a third
of the error that is judged. Points seen under small angles are off by more."""
MOST_ERROR_PX, LEAST_TRACK = 1.0, 3
"""Points with a larger reprojection error, or seen by fewer views, are no judges: two views always
agree on a point along their epipolar line."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd number near 2**64 / golden ratio: multiples of it are spread evenly (Knuth 6.4)."""
_NO_RAY = 1e-12
"""Keeps the information of points that one ray sees invertible."""


class Judges:
    """Which SfM points of a scene the refinement is given, and which judge it."""

    def __init__(self, scene: Scene, share: float) -> None:
        """A `share` of the points is left out, the same in every view."""
        self._scene = scene
        self._out = chosen(len(scene.points), share if len(scene.points) >= LEAST_POINTS else 0)

    def given(self, view: View) -> SparseDepth:
        """The points of a view that its refinement is given."""
        points = self._scene.sparse_depth(view)
        return points.select(~self._out[points.point_index])

    def of(self, view: View) -> SparseDepth:
        """The points of a view that judge it: left out, and certain enough in this view's depth."""
        points = self._scene.sparse_depth(view)
        points = points.select(self._out[points.point_index])
        axis = view.cam_from_world[2, :3]
        covariance = self._covariance[self._row[points.point_index]]
        deviation = np.sqrt(np.einsum("i,nij,j->n", axis, covariance, axis))
        good = deviation <= MOST_UNCERTAIN * points.depth
        good &= (points.error_px <= MOST_ERROR_PX) & (points.track_length >= LEAST_TRACK)
        return points.select(good)

    @cached_property
    def _row(self) -> NDArray[np.int64]:
        """Row of each point among those left out (N,)."""
        return np.cumsum(self._out) - 1

    @cached_property
    def _covariance(self) -> Array:
        """Covariance (M, 3, 3) of the points left out, in squared SfM units, when each view sees
        them with a deviation of one pixel: what is across a ray is known, what is along it not."""
        information = np.zeros((int(self._out.sum()), 3, 3))
        for view in self._scene.views:
            index = view.point_index[self._out[view.point_index]]
            ray = self._scene.points.xyz[index] - view.center
            distance = np.maximum(np.linalg.norm(ray, axis=1), 1e-12)
            ray /= distance[:, None]
            across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
            weight = (view.camera.mean_focal_px / distance) ** 2
            np.add.at(information, self._row[index], across * weight[:, None, None])
        least = _NO_RAY * np.maximum(np.trace(information, axis1=1, axis2=2), 1e-12)
        return np.linalg.inv(information + least[:, None, None] * np.eye(3))


def chosen(count: int, share: float) -> NDArray[np.bool_]:
    """Which of `count` points are left out (count,): a `share` of them, by a hash of the row."""
    with np.errstate(over="ignore"):
        mixed = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _SPREAD
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 < share
