"""Points for views that see too few: what others show that were taken from the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from refdepth.types.scene import Scene, SparseDepth, View

_SAMPLES = 128
"""Along the shorter side of each other view."""
_TRACK_LENGTH = 2
"""What a depth of another view counts as: the least that an SfM point has."""


def with_points_beside(
    scene: Scene,
    view: View,
    others: Iterable[str],
    depth_of: Callable[[str], NDArray[np.float32]],
) -> SparseDepth:
    """The SfM points that `view` sees, and with them depths (`depth_of`, height x width, SfM units,
    0 unknown) of `others` at the same place, where their pictures overlap with that of `view`: from
    one place, what is in front of what is the same. These have -1 for their row."""
    own = scene.sparse_depth(view)
    xy, depth = [own.xy], [own.depth]
    for name in others:
        other, found = scene[name], depth_of(name)
        step = max(1, min(found.shape) // _SAMPLES)
        known = found[::step, ::step] > 0
        pixels = other.camera.pixel_grid()[::step, ::step][known]
        points = other.camera.unproject(found[::step, ::step][known], pixels)
        local = points @ (view.cam_from_world[:3, :3] @ other.cam_from_world[:3, :3].T).T
        there, z = view.camera.project(local)
        inside = view.camera.contains(there)
        xy.append(there[inside])
        depth.append(z[inside])
    added = sum(map(len, depth)) - len(own)
    return SparseDepth(
        xy=np.concatenate(xy),
        depth=np.concatenate(depth),
        error_px=np.concatenate([own.error_px, np.zeros(added)]),
        track_length=np.concatenate([own.track_length, np.full(added, _TRACK_LENGTH)]),
        point_index=np.concatenate([own.point_index, np.full(added, -1)]),
    )
