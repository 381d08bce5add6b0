"""The sky while a view is refined: a surface behind everything, and afterwards no depth.

A scaled prior is infinite where it says that there is nothing within what can be believed. Left
out from the start, the smear that a network draws between a roof and the sky would have one side
only, and end as points in the air; as a surface far behind all others the sky takes part in the
search and in the sharpening of edges, and a neighbour that sees it through a point speaks against
that point. Where SfM points lie all over what a prior calls sky, they are right and it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, namespace
from refdepth.refine.settings import Method, RefineSettings
from refdepth.types.scene import SparseDepth

if TYPE_CHECKING:
    from scipy.spatial import Delaunay

Map = NDArray[np.float32]
Points = NDArray[np.float64]
BEHIND = 4.0
"""Depth of the sky while refining, in farthest depths of the scaled prior: so far behind that no
search carries the one into the other."""
LIMIT = 2.0
"""Depth from which a refined pixel is sky, in the same."""
SURE_TRACK = 3
INSIDE = 0.015
"""How far from all else a point in the sky lies, as a share of the picture's longer side: nearer
ones are of what stands before it."""
LEAST_POINTS = 8
"""Fewer points say nothing against a sky: a bird, a wire, a false match."""
REACH = 0.12
"""Longest distance between points that lie on one surface, as a share of the longer side."""
SAME_SURFACE = 1.25
"""Largest ratio of their depths."""
WHOLE = 0.25
"""Share of a piece of sky between points from which all of it belongs to them."""


@dataclass(frozen=True, kw_only=True)
class Sky:
    """The sky in one view."""

    farthest: float | None
    """Farthest depth of the scaled prior; None in a view without sky."""

    def kept(self, depth: Array, changed: Array) -> Array:
        """`changed`, but in the sky `depth` (H, W each)."""
        if self.farthest is None:
            return changed
        return namespace(depth).where(depth > LIMIT * self.farthest, depth, changed)

    def removed(self, depth: Array) -> Array:
        """Refined `depth` (H, W) with 0 for the sky; the same array where there is none."""
        if self.farthest is None:
            return depth
        return namespace(depth).where(depth > LIMIT * self.farthest, 0.0, depth)


def place_sky(scaled: Map, sparse: SparseDepth, settings: RefineSettings) -> tuple[Map, Sky]:
    """A `scaled` prior (H, W; infinite in the sky, 0 unknown) with the sky at a finite depth, and
    what takes it out again; the same array where there is none. To the published method the sky is
    unknown."""
    if not np.isinf(scaled).any():
        return scaled, Sky(farthest=None)
    if settings.method is Method.PAPER:
        return np.where(np.isinf(scaled), np.float32(0), scaled), Sky(farthest=None)
    scaled = contradicted(scaled, sparse)
    beyond = np.isinf(scaled)
    farthest = float(scaled[~beyond].max(initial=0))
    placed = np.where(beyond, np.float32(BEHIND * farthest), scaled)
    return placed, Sky(farthest=farthest if beyond.any() else None)


def left_out(
    told: NDArray[np.bool_], depth: Map, mask: NDArray[np.bool_] | None
) -> dict[str, float]:
    """For a record: the share of a view that its `mask` leaves out, and that of the sky beyond
    that, where the prior `told` something and final `depth` is unknown (H, W each)."""
    sky = told & (depth == 0)
    if mask is None:
        return {"sky_share": round(float(sky.mean()), 4), "masked_share": 0.0}
    return {
        "sky_share": round(float((sky & mask).mean()), 4),
        "masked_share": round(float(1 - mask.mean()), 4),
    }


def contradicted(scaled: Map, sparse: SparseDepth) -> Map:
    """`scaled` (H, W; infinite in the sky) with the depth of the SfM points where several of them
    lie close together on one surface in the midst of the sky; the same array where none do.

    Between the points it is linear in inverse depth, and goes on to the ends of a piece of sky that
    is mostly theirs: the search comes after.
    """
    sure = np.flatnonzero(sparse.track_length >= SURE_TRACK)
    longer = max(scaled.shape)
    xy, inverse = sparse.xy[sure] / longer, 1 / sparse.depth[sure]
    inside = _in_the_sky(scaled, sparse.xy[sure], max(1, round(INSIDE * longer)))
    if inside.sum() < LEAST_POINTS:
        return scaled
    from scipy.spatial import Delaunay, QhullError

    near = (xy >= xy[inside].min(axis=0) - REACH) & (xy <= xy[inside].max(axis=0) + REACH)
    chosen = near.all(axis=1)
    xy, inverse, inside = xy[chosen], inverse[chosen], inside[chosen]
    try:
        mesh = Delaunay(xy)
    except QhullError:  # all on one line
        return scaled
    corners, inverse = xy[mesh.simplices], inverse[mesh.simplices]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    surface = (
        (inside[mesh.simplices].sum(axis=1) >= 2)
        & (longest < REACH)
        & (inverse.max(axis=1) < SAME_SURFACE * inverse.min(axis=1))
        & np.isfinite(mesh.transform).all(axis=(1, 2))
    )
    return _filled(scaled, mesh, corners, inverse, surface) if surface.any() else scaled


def _filled(
    scaled: Map, mesh: Delaunay, corners: Points, inverse: Points, surface: NDArray[np.bool_]
) -> Map:
    """`scaled` with the sky within the triangles of a `surface` (T,) at the inverse depth that is
    linear between their `corners` (T, 3, 2), given as shares of the longer side, and has the value
    `inverse` (T, 3) there."""
    longer, filled = max(scaled.shape), scaled.copy()
    left, top = np.floor(corners[surface].min(axis=(0, 1)) * longer).astype(np.int64).clip(0)
    right, bottom = np.ceil(corners[surface].max(axis=(0, 1)) * longer).astype(np.int64)
    for y in range(top, min(bottom, scaled.shape[0])):
        row = filled[y, left:right]
        x = np.flatnonzero(np.isinf(row))
        places = np.stack([x + left + 0.5, np.full(len(x), y + 0.5)], axis=1) / longer
        triangle = mesh.find_simplex(places)
        on = (triangle >= 0) & surface[triangle]
        to = mesh.transform[triangle[on]]
        first = np.einsum("nij,nj->ni", to[:, :2], places[on] - to[:, 2])
        weight = np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1)
        row[x[on]] = 1 / (weight * inverse[triangle[on]]).sum(axis=1)
    return _to_the_ends(scaled, filled)


def _to_the_ends(scaled: Map, filled: Map) -> Map:
    """`filled` with the nearest filled depth in all of each piece of sky that mostly is."""
    from scipy.ndimage import distance_transform_edt, label

    pieces, count = label(np.isinf(scaled))
    found = np.isfinite(filled) & (pieces > 0)
    size = np.bincount(pieces.ravel(), minlength=count + 1)
    theirs = np.bincount(pieces[found], minlength=count + 1) >= WHOLE * size
    theirs[0] = False
    rest = theirs[pieces] & ~found
    if not rest.any():
        return filled
    y, x = distance_transform_edt(~found, return_distances=False, return_indices=True)
    return np.where(rest, filled[y, x], filled)


def _in_the_sky(scaled: Map, xy: NDArray[np.float64], margin_px: int) -> NDArray[np.bool_]:
    """Which of the pixels `xy` (N, 2) have sky alone within `margin_px`."""
    height, width = scaled.shape
    column, row = xy.astype(np.int64).reshape(-1, 2).T
    found = np.isinf(scaled[row.clip(0, height - 1), column.clip(0, width - 1)])
    for i in np.flatnonzero(found):
        rows = slice(max(row[i] - margin_px, 0), row[i] + margin_px + 1)
        columns = slice(max(column[i] - margin_px, 0), column[i] + margin_px + 1)
        found[i] = np.isinf(scaled[rows, columns]).all()
    return found
