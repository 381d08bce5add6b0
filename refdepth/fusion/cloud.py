"""One cloud from the depth maps of all views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.consensus import WEIGHT_FLOOR, draw_together, gives
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.views import median_center, position_type, typical_spacing
from refdepth.fusion.voxels import VoxelGrid
from refdepth.io.images import read_rgb
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
OnAgreed = Callable[[str, DepthMap], None]
Progress = Callable[[int, int], None]


def fuse(
    scene: Scene,
    load: Callable[[str], DepthMap],
    settings: FusionSettings | None = None,
    progress: Progress | None = None,
    *,
    on_view: OnView | None = None,
    on_agreed: OnAgreed | None = None,
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
        on_agreed=on_agreed,
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
    on_agreed: OnAgreed | None = None,
    scratch: Path | None = None,
    cache_mb: float = CACHE_MB,
    memory_points: int = MEMORY_POINTS,
) -> Iterator[PointCloud]:
    """The scene's cloud, one piece of space after another.

    `load` gives a view's depth map; it is called again when a map has left the cache. `progress`
    hears (views done, views in all), `on_view` each view's `ViewConsistency`, `on_agreed` the depth
    that it and its neighbours agree on. Beyond the cache of `cache_mb` MiB and `memory_points`
    unmerged points, memory holds one view, one of its sources and one piece; temporary files go to
    a folder in `scratch` (default: the system's).

    A pixel is kept when enough neighbours agree and few contradict (`check_view`). In a few rounds
    its depth becomes one that all views agree on (`draw_together`). A surface is given by the view
    that sees it most finely (`gives`), in colours evened for exposure (`even_gains`). Points that
    still share a voxel, about a pixel wide at their distance, are averaged by confidence.

    Raises `InputError` when a depth map does not have its photo's size.
    """
    settings = settings or FusionSettings()
    if not scene.views:
        return
    cache = DepthCache(load, scene, cache_mb)
    with TemporaryDirectory(prefix=".tmp-refdepth-rounds-", dir=scratch) as folder:
        rounds = _Rounds(scene, settings, Path(folder), cache_mb)
        swatches, ratios = Swatches(scene), list[ColourRatio]()
        for view in scene.views:
            sources = sources_of(view, scene, settings)
            checked = check_view(view, sources, cache, settings)
            if on_view is not None:
                on_view(view.name, checked)
            ratios += compare_colours(
                view, checked.depth, sources, cache, swatches, settings.max_depth_ratio
            )
            rounds.write(view.name, 0, checked.depth_map)
        yield from fuse_kept(
            scene,
            rounds.kept(on_agreed),
            settings,
            progress,
            spacing=typical_spacing(scene, cache),
            gains=even_gains(scene.names, ratios),
            scratch=scratch,
            memory_points=memory_points,
        )


class _Rounds:
    """The rounds of consensus, their depth maps in files of a folder."""

    def __init__(
        self, scene: Scene, settings: FusionSettings, folder: Path, cache_mb: float
    ) -> None:
        self._scene, self._settings = scene, settings
        self._folder, self._cache_mb = folder, cache_mb
        self._index = {name: index for index, name in enumerate(scene.names)}

    def write(self, name: str, turn: int, found: DepthMap) -> None:
        """Stores what a view has after a round; 0: what the neighbours confirm."""
        np.save(self._path(name, turn), np.stack([found.depth, found.confidence]))

    def kept(self, on_agreed: OnAgreed | None) -> Iterator[KeptPixels]:
        """What the cloud takes of each view."""
        scene, settings = self._scene, self._settings
        for turn in range(1, settings.rounds):
            before = self._after(turn - 1)
            for view in scene.views:
                sources = sources_of(view, scene, settings)
                self.write(view.name, turn, draw_together(view, sources, before, settings))
            for name in scene.names:
                self._path(name, turn - 1).unlink()
        before = self._after(settings.rounds - 1)
        for view in scene.views:
            agreed = draw_together(view, sources_of(view, scene, settings), before, settings)
            if on_agreed is not None:
                on_agreed(view.name, agreed)
            given = gives(view, agreed.depth, rivals_of(view, scene, settings), before, settings)
            yield KeptPixels.of(view, agreed, given)

    def _after(self, turn: int) -> DepthCache:
        def read(name: str) -> DepthMap:
            depth, confidence = np.load(self._path(name, turn))
            return DepthMap(depth=depth, confidence=confidence)

        return DepthCache(read, self._scene, self._cache_mb)

    def _path(self, name: str, turn: int) -> Path:
        return self._folder / f"{self._index[name]}-{turn}.npy"


def fuse_kept(
    scene: Scene,
    kept: Iterable[KeptPixels],
    settings: FusionSettings,
    progress: Progress | None = None,
    *,
    spacing: float,
    gains: Mapping[str, NDArray[np.float64]],
    scratch: Path | None = None,
    memory_points: int = MEMORY_POINTS,
) -> Iterator[PointCloud]:
    """`fuse_pieces` from what others take of the views: of every view, in the scene's order.
    `spacing` is the scene's `typical_spacing`; `gains` even the views' colours (`even_gains`)."""
    voxel = settings.voxel_px * spacing
    grid = VoxelGrid(median_center(scene), voxel, memory_points, scratch)
    with contextlib.closing(grid):
        for done, (view, pixels) in enumerate(zip(scene.views, kept, strict=True)):
            if len(pixels.depth):
                points, values, weight, widths = _points(view, pixels, gains[view.name])
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


def rivals_of(view: View, scene: Scene, settings: FusionSettings) -> list[View]:
    """The views that may give a view's surfaces in its stead."""
    from refdepth.matching.neighbours import select_sources

    return [scene[name] for name in select_sources(scene, view, settings.rivals)]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptPixels:
    """What the cloud takes of a view: K pixels, row by row."""

    packed: NDArray[np.uint8]
    """Which pixels these are, one bit a pixel."""
    shape: tuple[int, int]
    depth: NDArray[np.float32]
    """Agreed depth (K,), SfM units."""
    confidence: NDArray[np.float32]
    """In [0, 1] (K,)."""
    normals: NDArray[np.float32]
    """Unit normals (K, 3), camera axes; zero where unknown."""
    confirmed: float
    """Share of the view's pixels that others confirm, whether they are taken of it or of another
    view."""

    @classmethod
    def of(cls, view: View, agreed: DepthMap, given: NDArray[np.bool_]) -> KeptPixels:
        """From the depth that views agree on and which pixels (height, width) are taken."""
        from refdepth.geometry.normals import estimate_normals

        normals = estimate_normals(
            agreed.depth,
            view.camera,
            radius_px=NORMAL_RADIUS_PX,
            max_ratio=NORMAL_RADIUS_PX * 0.01,
        )
        return cls(
            packed=np.packbits(given),
            shape=view.camera.shape,
            depth=agreed.depth[given],
            confidence=agreed.confidence[given],
            normals=normals[given],
            confirmed=float(agreed.valid.mean()),
        )

    def mask(self) -> NDArray[np.bool_]:
        """Where they lie (height, width)."""
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.packed, count=count).reshape(self.shape) > 0


def _points(
    view: View, pixels: KeptPixels, gain: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """World points (N, 3), values (N, 7), weights (N,) and pixel spacing (N,) of a view."""
    taken = pixels.mask()
    depth = pixels.depth.astype(np.float64)
    rays = view.camera.rays()[taken]
    world_from_cam = np.linalg.inv(view.cam_from_world)
    points = (rays * depth[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    normal = pixels.normals.astype(np.float64)
    cosine = -(normal * rays).sum(axis=1) / np.linalg.norm(rays, axis=1)
    confidence = pixels.confidence.astype(np.float64)
    weight = np.maximum(confidence, WEIGHT_FLOOR) * np.maximum(cosine, GRAZING_COSINE)
    color = read_rgb(view.image_path)[taken] * gain
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
