"""One cloud from the depth maps of all views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
    if not scene.views:
        return
    cache = DepthCache(load, scene, cache_mb)

    def kept() -> Iterator[KeptPixels]:
        for view in scene.views:
            checked = check_view(view, sources_of(view, scene, settings), cache, settings)
            if on_view is not None:
                on_view(view.name, checked)
            yield KeptPixels.of(view, checked)

    yield from fuse_kept(
        scene,
        kept(),
        settings,
        progress,
        spacing=typical_spacing(scene, cache),
        scratch=scratch,
        memory_points=memory_points,
    )


def fuse_kept(
    scene: Scene,
    kept: Iterable[KeptPixels],
    settings: FusionSettings,
    progress: Progress | None = None,
    *,
    spacing: float,
    scratch: Path | None = None,
    memory_points: int = MEMORY_POINTS,
) -> Iterator[PointCloud]:
    """`fuse_pieces` from pixels that others have checked: those of every view, in the scene's
    order. `spacing` is the scene's `typical_spacing`."""
    claimed: dict[str, NDArray[np.uint8]] = {}
    voxel = settings.voxel_px * spacing
    grid = VoxelGrid(median_center(scene), voxel, memory_points, scratch)
    with contextlib.closing(grid):
        for done, (view, pixels) in enumerate(zip(scene.views, kept, strict=True)):
            emitted = pixels.mask()
            if view.name in claimed:
                packed = claimed.pop(view.name)
                emitted &= np.unpackbits(packed, count=emitted.size).reshape(emitted.shape) == 0
            sources = [scene[name] for name in pixels.sources]
            later = [source for source in sources if source.name > view.name]
            _claim(view, sources, later, pixels, emitted, claimed)
            if emitted.any():
                points, values, weight, widths = _points(view, pixels, emitted)
                grid.add(points, values, weight, widths * settings.voxel_px)
            if progress is not None:
                progress(done + 1, len(scene))
        dtype = position_type(scene, voxel)
        for points, values in grid.pieces():
            yield _piece(points, values, dtype)


def sources_of(view: View, scene: Scene, settings: FusionSettings) -> list[View]:
    """The views that are asked about a view's pixels."""
    from refdepth.matching.neighbours import select_sources

    return [scene[name] for name in select_sources(scene, view, settings.neighbours)]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptPixels:
    """What the cloud takes of a view: the K pixels that others confirm, row by row."""

    packed: NDArray[np.uint8]
    """Which pixels these are, one bit a pixel."""
    shape: tuple[int, int]
    depth: NDArray[np.float32]
    """Agreed depth (K,), SfM units."""
    confidence: NDArray[np.float32]
    """In [0, 1] (K,)."""
    voters: NDArray[np.uint32]
    """Bit i set where the i-th source agrees (K,)."""
    normals: NDArray[np.float32]
    """Unit normals (K, 3), camera axes; zero where unknown."""
    sources: tuple[str, ...]
    """The views that were asked."""

    @classmethod
    def of(cls, view: View, checked: ViewConsistency) -> KeptPixels:
        """From what a view's neighbours say."""
        from refdepth.geometry.normals import estimate_normals

        mask = checked.mask
        normals = estimate_normals(
            checked.depth,
            view.camera,
            radius_px=NORMAL_RADIUS_PX,
            max_ratio=NORMAL_RADIUS_PX * 0.01,
        )
        return cls(
            packed=np.packbits(mask),
            shape=view.camera.shape,
            depth=checked.depth[mask],
            confidence=checked.confidence[mask],
            voters=checked.voters[mask],
            normals=normals[mask],
            sources=checked.sources,
        )

    def mask(self) -> NDArray[np.bool_]:
        """Where they lie (height, width)."""
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.packed, count=count).reshape(self.shape) > 0

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (K,) as a map (height, width), zero elsewhere."""
        out = np.zeros(self.shape, values.dtype)
        out[self.mask()] = values
        return out


def _claim(
    view: View,
    sources: list[View],
    later: list[View],
    pixels: KeptPixels,
    emitted: NDArray[np.bool_],
    claimed: dict[str, NDArray[np.uint8]],
) -> None:
    """Marks what `view` gives in the views that come after it. Masks are kept packed."""
    from refdepth.fusion import kernels

    if not later:
        return
    depth, voters = pixels.spread(pixels.depth), pixels.spread(pixels.voters)
    for source in later:
        shape = source.camera.shape
        mask = np.zeros(shape, np.bool_)
        if source.name in claimed:
            mask = np.unpackbits(claimed[source.name], count=mask.size).reshape(shape) > 0
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        kernels.claim(
            depth,
            emitted,
            voters,
            np.uint32(1 << sources.index(source)),
            A,
            b,
            view.camera.mean_focal_px / source.camera.mean_focal_px,
            mask,
        )
        claimed[source.name] = np.packbits(mask)


def _points(
    view: View, pixels: KeptPixels, emitted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """World points (N, 3), values (N, 7), weights (N,) and pixel spacing (N,) of a view."""
    chosen = emitted[pixels.mask()]
    depth = pixels.depth[chosen].astype(np.float64)
    rays = view.camera.rays()[emitted]
    world_from_cam = np.linalg.inv(view.cam_from_world)
    points = (rays * depth[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    normal = pixels.normals[chosen].astype(np.float64)
    cosine = -(normal * rays).sum(axis=1) / np.linalg.norm(rays, axis=1)
    confidence = pixels.confidence[chosen].astype(np.float64)
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
