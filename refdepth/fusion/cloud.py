"""One cloud from the depth maps of all views."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.beside import beside_of
from refdepth.fusion.consensus import Drawn, draw_together
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains
from refdepth.fusion.giving import claimants_of, finest_first, give, given_rows, pixel_width
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.tiles import TILE_POINTS, Index, cut_tiles, fuse_tile, read_rows, write_rows
from refdepth.fusion.views import (
    position_type,
    reduced_depth,
    reduced_scene,
    scene_lattice,
)
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View
from refdepth.writing import save_array

CACHE_MB = 512.0
"""Memory for depth maps kept between views, MiB, where no limit is given."""

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
    tile_points: int = TILE_POINTS,
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
        tile_points=tile_points,
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
    tile_points: int = TILE_POINTS,
) -> Iterator[PointCloud]:
    """The scene's cloud, one piece of space after another.

    `load` gives a view's depth map; it is called again when a map has left the cache. `progress`
    hears (views done, views in all), `on_view` each view's `ViewConsistency`, `on_agreed` the depth
    that it and its neighbours agree on. Beyond the cache of `cache_mb` MiB memory holds one view,
    one of its sources and a tile of some `tile_points` unmerged points; temporary files go to a
    folder in `scratch` (default: the system's). The points do not depend on the tiles, their order
    does.

    A pixel is kept when enough neighbours agree and few contradict (`check_view`). In a few rounds
    its depth becomes one that all views agree on (`draw_together`). Views give their surfaces one
    after another, those that see most finely first (`finest_first`): what one has given is not
    given again by another that sees it no more finely (`give`). Colours are evened for exposure
    (`even_gains`). Points that still share a voxel, about a pixel wide at their distance, are
    averaged by confidence (`fuse_tile`). All of that on grids of at most `settings.max_pixels`.

    Raises `InputError` when a depth map does not have its photo's size.
    """
    settings = settings or FusionSettings()
    if not scene.views:
        return
    load = reduced_depth(scene, settings.max_pixels, load)
    scene = reduced_scene(scene, settings.max_pixels)
    cache = DepthCache(load, scene, cache_mb)
    with TemporaryDirectory(prefix=".tmp-refdepth-fusion-", dir=scratch) as folder:
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
        order, gains = finest_first(widths), even_gains(scene.names, ratios)
        lattice = scene_lattice(scene, settings, cache)
        files = {name: Path(folder) / f"{number}.rows" for number, name in enumerate(order)}
        index: dict[str, Index] = {}
        for name, agreed, mask in _given(scene, order, rounds, settings):
            if on_agreed is not None:
                on_agreed(name, agreed)
            rows = given_rows(
                scene[name],
                agreed,
                mask,
                gain=gains[name],
                lattice=lattice,
                voxel_px=settings.voxel_px,
            )
            index[name] = write_rows(files[name], rows)
            if progress is not None:
                progress(len(index), len(scene))
        positions = position_type(scene, lattice.voxel)
        for tile in cut_tiles(order, index.__getitem__, tile_points):
            yield from fuse_tile(
                tile,
                lambda name, tile=tile: read_rows(files[name], index[name], tile),  # type: ignore[misc]
                lattice,
                positions,
                scratch=Path(folder),
                memory_rows=tile_points,
            )


def _given(
    scene: Scene, order: Sequence[str], rounds: _Rounds, settings: FusionSettings
) -> Iterator[tuple[str, DepthMap, NDArray[np.bool_]]]:
    """What each view and its sources agree on, and which pixels of it the view gives."""
    sources = {view.name: sources_of(view, scene, settings) for view in scene.views}
    names = {name: [source.name for source in found] for name, found in sources.items()}
    claimants = claimants_of(order, names)
    claims: dict[str, list[bytes]] = {name: [] for name in order}
    for name, drawn in rounds.drawn(order):
        later = [source for source in names[name] if name in claimants[source]]
        shape = scene[name].camera.shape
        earlier = (_unpacked(claim, shape) for claim in claims.pop(name))
        given = give(scene[name], drawn, sources[name], earlier, later)
        for source, mask in given.claimed.items():
            claims[source].append(zlib.compress(np.packbits(mask).tobytes(), 1))
        yield name, drawn.depth_map, given.mask


def _unpacked(packed: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape) > 0


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
        save_array(self._path(name, turn), np.stack([found.depth, found.confidence]))

    def drawn(self, order: Sequence[str]) -> Iterator[tuple[str, Drawn]]:
        """What each view has after the last round, in an order."""
        scene, settings = self._scene, self._settings
        for turn in range(1, settings.rounds):
            before = self._after(turn - 1)
            for view in scene.views:
                sources = sources_of(view, scene, settings)
                beside = beside_of(view, scene)
                drawn = draw_together(view, sources, before, settings, beside)
                self.write(view.name, turn, drawn.depth_map)
            for name in scene.names:
                self._path(name, turn - 1).unlink()
        before = self._after(settings.rounds - 1)
        for name in order:
            sources = sources_of(scene[name], scene, settings)
            beside = beside_of(scene[name], scene)
            yield name, draw_together(scene[name], sources, before, settings, beside)

    def _after(self, turn: int) -> DepthCache:
        def read(name: str) -> DepthMap:
            depth, confidence = np.load(self._path(name, turn))
            return DepthMap(depth=depth, confidence=confidence)

        return DepthCache(read, self._scene, self._cache_mb)

    def _path(self, name: str, turn: int) -> Path:
        return self._folder / f"{self._index[name]}-{turn}.npy"


def sources_of(view: View, scene: Scene, settings: FusionSettings) -> list[View]:
    """The views that are asked about a view's pixels."""
    from refdepth.matching.neighbours import select_sources

    return [scene[name] for name in select_sources(scene, view, settings.neighbours)]
