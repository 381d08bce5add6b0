"""Who gives which surface to the cloud: each once, by the view that sees it most finely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.consensus import WEIGHT_FLOOR, Drawn
from refdepth.fusion.exposure import evened
from refdepth.fusion.voxels import Lattice
from refdepth.io.images import load_rgb
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

NORMAL_RADIUS_PX = 2
GRAZING_COSINE = 0.1  # a surface seen edge-on still counts this much
LEAD = 1.1
"""A view gives what another has given before it where it sees that finer by this factor."""
MOST_AT_ONCE = 1 << 18
"""Pixels that become points at a time; each takes some 600 bytes on the way."""


def pixel_width(view: View, depth: NDArray[np.float32]) -> float:
    """Median width of a pixel on what `depth` (height, width) shows of a view, SfM units; infinite
    where that is nothing."""
    known = depth[depth > 0]
    return float(np.median(known)) / view.camera.mean_focal_px if known.size else np.inf


def finest_first(widths: Mapping[str, float]) -> list[str]:
    """Views by their `pixel_width`, in the order in which they give their surfaces."""
    return sorted(widths, key=lambda name: (widths[name], name))


def claimants_of(
    order: Sequence[str], sources: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """For each view those that come before it in `order` and have it among their `sources`: what
    these give it may not have to give again."""
    number = {name: place for place, name in enumerate(order)}
    found: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for source in sources[name]:
            if number[source] > number[name]:
                found[source].append(name)
    return {name: tuple(earlier) for name, earlier in found.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a view gives the cloud."""

    mask: NDArray[np.bool_]
    """Which pixels (height, width)."""
    claimed: Mapping[str, NDArray[np.bool_]]
    """Pixels (height, width) of each later source whose surface is given with these."""


def give(
    view: View,
    drawn: Drawn,
    sources: Sequence[View],
    claims: Iterable[NDArray[np.bool_]],
    later: Iterable[str],
) -> Given:
    """Decides what `view` gives of what it and its `sources` agree on: what its claimants have not
    `claimed`. `later` are the sources that come after it."""
    from refdepth.fusion import kernels

    depth = drawn.depth_map.depth
    mask = drawn.depth_map.valid
    for claim in claims:
        mask &= ~claim
    claimed = {}
    waiting = set(later)
    for bit, source in enumerate(sources):
        if source.name not in waiting:
            continue
        found = np.zeros(source.camera.shape, np.bool_)
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        kernels.claim(
            depth,
            mask,
            drawn.voters,
            np.uint32(1 << bit),
            A,
            b,
            view.camera.mean_focal_px / source.camera.mean_focal_px,
            LEAD,
            found,
        )
        claimed[source.name] = found
    return Given(mask=mask, claimed=claimed)


def given_rows(
    view: View,
    agreed: DepthMap,
    mask: NDArray[np.bool_],
    *,
    gain: NDArray[np.float64],
    lattice: Lattice,
    voxel_px: float,
) -> Iterator[NDArray[np.void]]:
    """The pixels of `mask` (height, width) as rows of a lattice, some thousand at a time. `gain`
    (3,) evens the view's colours, `voxel_px` is the size of a point's voxel in pixels."""
    from refdepth.geometry.normals import estimate_normals

    normals = estimate_normals(
        agreed.depth,
        view.camera,
        radius_px=NORMAL_RADIUS_PX,
        max_ratio=NORMAL_RADIUS_PX * 0.01,
    )[mask]
    depths, confidences = agreed.depth[mask], agreed.confidence[mask]
    rays, photo = view.camera.rays()[mask], load_rgb(view)[mask]
    world_from_cam = np.linalg.inv(view.cam_from_world)
    for start in range(0, len(depths), MOST_AT_ONCE):
        part = slice(start, start + MOST_AT_ONCE)
        depth, normal = depths[part].astype(np.float64), normals[part].astype(np.float64)
        ray, confidence = rays[part], confidences[part].astype(np.float64)
        points = (ray * depth[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        cosine = -(normal * ray).sum(axis=1) / np.linalg.norm(ray, axis=1)
        weight = np.maximum(confidence, WEIGHT_FLOOR) * np.maximum(cosine, GRAZING_COSINE)
        facing = normal @ world_from_cam[:3, :3].T
        values = np.concatenate([facing, evened(photo[part], gain), confidence[:, None]], axis=1)
        spacing = depth / view.camera.mean_focal_px * voxel_px
        yield lattice.rows(points, values, weight, spacing)
