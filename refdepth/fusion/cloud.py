"""One cloud from the depth maps of all views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.crosscheck import WEIGHT_FLOOR, DepthCache, ViewConsistency, check_view
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.views import median_center, position_type, typical_spacing
from refdepth.fusion.voxels import VoxelGrid
from refdepth.io.images import read_rgb
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

NORMAL_RADIUS_PX = 2
GRAZING_COSINE = 0.1  # a surface seen edge-on still counts this much
CACHE_MB = 512.0
"""Memory for depth maps kept between views, MiB, where no limit is given."""
MEMORY_POINTS = 8_000_000
"""Unmerged points in memory, others going to temporary files, where no limit is given."""

OnView = Callable[[str, ViewConsistency], None]
Progress = Callable[[int, int], None]


def fuse(
    scene: Scene,
    load: Callable[[str], DepthMap],
    settings: FusionSettings | None = None,
    progress: Progress | None = None,
    *,
    on_view: OnView | None = None,
    scratch: Path | None = None,
    cache_mb: float = CACHE_MB,
    memory_points: int = MEMORY_POINTS,
) -> PointCloud:
    """`fuse_pieces` as one cloud in memory."""
    settings = settings or FusionSettings()
    pieces = fuse_pieces(
        scene,
        load,
        settings,
        progress,
        on_view=on_view,
        scratch=scratch,
        cache_mb=cache_mb,
        memory_points=memory_points,
    )
    return PointCloud.concatenate(list(pieces))


def fuse_pieces(
    scene: Scene,
    load: Callable[[str], DepthMap],
    settings: FusionSettings | None = None,
    progress: Progress | None = None,
    *,
    on_view: OnView | None = None,
    scratch: Path | None = None,
    cache_mb: float = CACHE_MB,
    memory_points: int = MEMORY_POINTS,
) -> Iterator[PointCloud]:
    """The scene's cloud, one piece of space after another.

    `load` gives a view's depth map; it is called again when a map has left the cache. `progress`
    hears (views done, views in all), `on_view` each view's `ViewConsistency`. Beyond the cache of
    `cache_mb` MiB and `memory_points` unmerged points, memory holds one view, one of its sources
    and one piece; temporary files go to a folder in `scratch` (default: the system's).

    A pixel is kept when enough neighbours agree and few contradict; its depth is the agreed one.
    A surface that an earlier view has given is not given again by a view that sees it no more
    finely. Points that still share a voxel, about a pixel wide at their distance, are averaged by
    confidence.

    Raises `InputError` when a depth map does not have its photo's size.
    """
    settings = settings or FusionSettings()
    from refdepth.matching.neighbours import select_sources

    cache = DepthCache(load, scene, cache_mb)
    claimed: dict[str, NDArray[np.uint8]] = {}
    if not scene.views:
        return
    voxel = settings.voxel_px * typical_spacing(scene, cache)
    grid = VoxelGrid(median_center(scene), voxel, memory_points, scratch)
    with contextlib.closing(grid):
        for done, view in enumerate(scene.views):
            names = select_sources(scene, view, settings.neighbours)
            sources = [scene[name] for name in names]
            checked = check_view(view, sources, cache, settings)
            if on_view is not None:
                on_view(view.name, checked)
            emitted = checked.mask
            if view.name in claimed:
                packed = claimed.pop(view.name)
                emitted &= np.unpackbits(packed, count=emitted.size).reshape(emitted.shape) == 0
            later = [source for source in sources if source.name > view.name]
            _claim(view, sources, later, checked, emitted, claimed)
            if emitted.any():
                points, values, weight, spacing = _points(view, checked, emitted)
                grid.add(points, values, weight, spacing * settings.voxel_px)
            if progress is not None:
                progress(done + 1, len(scene))
        dtype = position_type(scene, voxel)
        for points, values in grid.pieces():
            yield _piece(points, values, dtype)


def _claim(
    view: View,
    sources: list[View],
    later: list[View],
    checked: ViewConsistency,
    emitted: NDArray[np.bool_],
    claimed: dict[str, NDArray[np.uint8]],
) -> None:
    """Marks what `view` gives in the views that come after it. Masks are kept packed."""
    from refdepth.fusion import kernels

    for source in later:
        shape = source.camera.shape
        mask = np.zeros(shape, np.bool_)
        if source.name in claimed:
            mask = np.unpackbits(claimed[source.name], count=mask.size).reshape(shape) > 0
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        kernels.claim(
            checked.depth,
            emitted,
            checked.voters,
            np.uint32(1 << sources.index(source)),
            A,
            b,
            view.camera.mean_focal_px / source.camera.mean_focal_px,
            mask,
        )
        claimed[source.name] = np.packbits(mask)


def _points(
    view: View, checked: ViewConsistency, emitted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """World points (N, 3), values (N, 7), weights (N,) and pixel spacing (N,) of a view."""
    from refdepth.geometry.normals import estimate_normals

    normals = estimate_normals(
        checked.depth,
        view.camera,
        radius_px=NORMAL_RADIUS_PX,
        max_ratio=NORMAL_RADIUS_PX * 0.01,
    )
    depth = checked.depth[emitted].astype(np.float64)
    rays = view.camera.rays()[emitted]
    world_from_cam = np.linalg.inv(view.cam_from_world)
    points = (rays * depth[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    normal = normals[emitted].astype(np.float64)
    cosine = -(normal * rays).sum(axis=1) / np.linalg.norm(rays, axis=1)
    confidence = checked.confidence[emitted].astype(np.float64)
    weight = np.maximum(confidence, WEIGHT_FLOOR) * np.maximum(cosine, GRAZING_COSINE)
    color = read_rgb(view.image_path)[emitted].astype(np.float64)
    values = np.concatenate([normal @ world_from_cam[:3, :3].T, color, confidence[:, None]], axis=1)
    return points, values, weight, depth / view.camera.mean_focal_px


def _piece(
    points: NDArray[np.float64], values: NDArray[np.float64], dtype: type[np.floating[Any]]
) -> PointCloud:
    length = np.linalg.norm(values[:, :3], axis=1, keepdims=True)
    normals = np.divide(values[:, :3], length, out=np.zeros_like(values[:, :3]), where=length > 0)
    return PointCloud(
        points=points.astype(dtype),
        normals=normals.astype(np.float32),
        colors=np.rint(values[:, 3:6].clip(0, 255)).astype(np.uint8),
        confidence=np.clip(values[:, 6], 0, 1).astype(np.float32),
    )
