"""One cloud from the depth maps of all views."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.consensus import WEIGHT_FLOOR, Drawn, draw_together
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains, evened
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.views import (
    median_center,
    position_type,
    reduced_depth,
    reduced_scene,
    typical_spacing,
)
from refdepth.fusion.voxels import VoxelGrid
from refdepth.io.images import load_rgb
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

NORMAL_RADIUS_PX = 2
GRAZING_COSINE = 0.1  # a surface seen edge-on still counts this much
LEAD = 1.1
"""A view gives what another has given before it where it sees that finer by this factor."""
MOST_AT_ONCE = 1 << 18
"""Pixels that become points at a time; each takes some 600 bytes on the way."""
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
    its depth becomes one that all views agree on (`draw_together`). Views give their surfaces one
    after another, those that see most finely first (`finest_first`): what one has given is not
    given again by another that sees it no more finely. Colours are evened for exposure
    (`even_gains`). Points that still share a voxel, about a pixel wide at their distance, are
    averaged by confidence. All of that on grids of at most `settings.max_pixels`.

    Raises `InputError` when a depth map does not have its photo's size.
    """
    settings = settings or FusionSettings()
    if not scene.views:
        return
    load = reduced_depth(scene, settings.max_pixels, load)
    scene = reduced_scene(scene, settings.max_pixels)
    cache = DepthCache(load, scene, cache_mb)
    with TemporaryDirectory(prefix=".tmp-refdepth-rounds-", dir=scratch) as folder:
        rounds = _Rounds(scene, settings, Path(folder), cache_mb)
        swatches, ratios, widths = Swatches(scene), list[ColourRatio](), dict[str, float]()
        for view in scene.views:
            sources = sources_of(view, scene, settings)
            checked = check_view(view, sources, cache, settings)
            if on_view is not None:
                on_view(view.name, checked)
            ratios += compare_colours(
                view, checked.depth, sources, cache, swatches, settings.max_depth_ratio
            )
            widths[view.name] = pixel_width(view, checked.depth)
            rounds.write(view.name, 0, checked.depth_map)
        order = finest_first(widths)
        yield from fuse_kept(
            scene,
            rounds.kept(order, on_agreed),
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

    def kept(self, order: Sequence[str], on_agreed: OnAgreed | None) -> Iterator[KeptPixels]:
        """What others confirm of each view, in an order."""
        scene, settings = self._scene, self._settings
        for turn in range(1, settings.rounds):
            before = self._after(turn - 1)
            for view in scene.views:
                sources = sources_of(view, scene, settings)
                drawn = draw_together(view, sources, before, settings)
                self.write(view.name, turn, drawn.depth_map)
            for name in scene.names:
                self._path(name, turn - 1).unlink()
        before = self._after(settings.rounds - 1)
        for name in order:
            sources = sources_of(scene[name], scene, settings)
            drawn = draw_together(scene[name], sources, before, settings)
            if on_agreed is not None:
                on_agreed(name, drawn.depth_map)
            yield KeptPixels.of(scene[name], drawn, sources)

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
    """`fuse_pieces` from pixels that others have made: those of every view, in the order in which
    views are to give their surfaces. `spacing` is the scene's `typical_spacing`; `gains` even the
    views' colours (`even_gains`)."""
    claimed: dict[str, bytes] = {}
    given: set[str] = set()
    voxel = settings.voxel_px * spacing
    grid = VoxelGrid(median_center(scene), voxel, memory_points, scratch)
    with contextlib.closing(grid):
        for pixels in kept:
            view = scene[pixels.name]
            given.add(view.name)
            emitted = pixels.mask()
            if view.name in claimed:
                emitted &= ~_unpacked(claimed.pop(view.name), emitted.shape)
            later = {
                bit: scene[name] for bit, name in enumerate(pixels.sources) if name not in given
            }
            _claim(view, later, pixels, emitted, claimed)
            for points, values, weight, widths in _points(view, pixels, emitted, gains[view.name]):
                grid.add(points, values, weight, widths * settings.voxel_px)
            if progress is not None:
                progress(len(given), len(scene))
        dtype = position_type(scene, voxel)
        for points, values in grid.pieces():
            yield _piece(points, values, dtype)


def pixel_width(view: View, depth: NDArray[np.float32]) -> float:
    """Median width of a pixel on what `depth` (height, width) shows of a view, SfM units; infinite
    where that is nothing."""
    known = depth[depth > 0]
    return float(np.median(known)) / view.camera.mean_focal_px if known.size else np.inf


def finest_first(widths: Mapping[str, float]) -> list[str]:
    """Views by their `pixel_width`, in the order in which they give their surfaces."""
    return sorted(widths, key=lambda name: (widths[name], name))


def sources_of(view: View, scene: Scene, settings: FusionSettings) -> list[View]:
    """The views that are asked about a view's pixels."""
    from refdepth.matching.neighbours import select_sources

    return [scene[name] for name in select_sources(scene, view, settings.neighbours)]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptPixels:
    """What the cloud takes of a view: the K pixels that others confirm, row by row."""

    name: str
    """The view's."""
    packed: NDArray[np.uint8]
    """Which pixels these are, one bit a pixel."""
    shape: tuple[int, int]
    depth: NDArray[np.float32]
    """Agreed depth (K,), SfM units."""
    confidence: NDArray[np.float32]
    """In [0, 1] (K,)."""
    voters: NDArray[np.uint32]
    """Bit i set where the i-th source has the same surface (K,)."""
    normals: NDArray[np.float32]
    """Unit normals (K, 3), camera axes; zero where unknown."""
    sources: tuple[str, ...]
    """The views that were asked."""

    @classmethod
    def of(cls, view: View, drawn: Drawn, sources: Sequence[View]) -> KeptPixels:
        """From the depth that a view and its sources agree on."""
        from refdepth.geometry.normals import estimate_normals

        agreed, mask = drawn.depth_map, drawn.depth_map.valid
        normals = estimate_normals(
            agreed.depth,
            view.camera,
            radius_px=NORMAL_RADIUS_PX,
            max_ratio=NORMAL_RADIUS_PX * 0.01,
        )
        return cls(
            name=view.name,
            packed=np.packbits(mask),
            shape=view.camera.shape,
            depth=agreed.depth[mask],
            confidence=agreed.confidence[mask],
            voters=drawn.voters[mask],
            normals=normals[mask],
            sources=tuple(source.name for source in sources),
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
    later: Mapping[int, View],
    pixels: KeptPixels,
    emitted: NDArray[np.bool_],
    claimed: dict[str, bytes],
) -> None:
    """Marks what `view` gives in those of its sources, by their bit in `voters`, that come after
    it. As many masks wait as there are views to come: they are kept compressed."""
    from refdepth.fusion import kernels

    if not later:
        return
    depth, voters = pixels.spread(pixels.depth), pixels.spread(pixels.voters)
    for bit, source in later.items():
        shape = source.camera.shape
        known = claimed.get(source.name)
        mask = np.zeros(shape, np.bool_) if known is None else _unpacked(known, shape)
        source_from_ref = relative_pose(source.cam_from_world, view.cam_from_world)
        A, b = projection_from_ref(view.camera, source.camera, source_from_ref)
        kernels.claim(
            depth,
            emitted,
            voters,
            np.uint32(1 << bit),
            A,
            b,
            view.camera.mean_focal_px / source.camera.mean_focal_px,
            LEAD,
            mask,
        )
        claimed[source.name] = zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape) > 0


def _points(
    view: View, pixels: KeptPixels, emitted: NDArray[np.bool_], gain: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """World points (N, 3), values (N, 7), weights (N,) and pixel spacing (N,) of a view, some
    thousand pixels at a time."""
    chosen = emitted[pixels.mask()]
    rays, photo = view.camera.rays()[emitted], load_rgb(view)[emitted]
    depths, normals = pixels.depth[chosen], pixels.normals[chosen]
    confidences = pixels.confidence[chosen]
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
        yield points, values, weight, depth / view.camera.mean_focal_px


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
