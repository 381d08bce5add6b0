"""What the stage `fuse` does view by view and tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.pipeline.compact import packed
from refdepth.pipeline.config import RunConfig
from refdepth.pipeline.files import replacing
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.making import REDUCED, SWATCHES, Checked, Making, mask_of, stored_depth
from refdepth.pipeline.stage import Brief
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.fusion import DepthCache, Tile
    from refdepth.fusion.voxels import Lattice


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What the steps of the stage share."""

    brief: Brief
    cost: Cost

    @property
    def making(self) -> Making:
        """Where they leave what they make."""
        return Making(self.brief)


@dataclass(frozen=True, kw_only=True)
class _ViewStep(_Step):
    """A step that goes view by view."""

    names: tuple[str, ...]
    """The views of the cloud."""

    def scene(self) -> Scene:
        """The views on the grids of fusion."""
        return on_grids(photos_of(self.brief.workspace, self.names), self.brief.config)


@dataclass(frozen=True, kw_only=True)
class _Comparison(_ViewStep):
    """A step that looks at a view's neighbours, too."""

    sources: Mapping[str, tuple[str, ...]]
    """Those of each view, best first."""

    def cache(
        self, desk: Desk, scene: Scene, label: str, load: Callable[[str], DepthMap]
    ) -> DepthCache:
        """Depth maps of one step, shared by the works of this process."""
        from refdepth.fusion import DepthCache

        settings = self.brief.config.fuse.model_dump_json()
        key = label, self.brief.root, self.brief.inputs.get("refine"), scene.names, settings
        return desk.keep(key, lambda: DepthCache(load, scene, desk.cache_bytes / 2**20))


@dataclass(frozen=True, kw_only=True)
class CrossChecks(_Comparison):
    """What the neighbours confirm of a view is stored."""

    def open(self, desk: Desk) -> Callable[[str], Checked]:
        """Loads the scene."""
        from refdepth.fusion import Swatches, check_view, compare_colours, pixel_width

        settings, scene, making = self.brief.config.fuse, self.scene(), self.making
        load = self.cache(desk, scene, "refined", self._refined(scene))
        small = Swatches(scene)

        def swatch(name: str) -> NDArray[np.float32]:
            return making.once(SWATCHES, name, lambda: {"rgb": small.make(name)})["rgb"]

        swatches, ratio = Swatches(scene, swatch), settings.max_depth_ratio

        def check(name: str) -> Checked:
            if (known := Checked.read(making.check(name))) is not None:
                return known
            view = scene[name]
            sources = [scene[source] for source in self.sources[name]]
            checked = check_view(view, sources, load, settings)
            making.after(0).write_arrays(name, packed(**vars(checked.depth_map)))
            found = Checked(
                colours=compare_colours(view, checked.depth, sources, load, swatches, ratio),
                pixel_width=pixel_width(view, checked.depth),
            )
            found.write(making.check(name))
            return found

        return check

    def _refined(self, scene: Scene) -> Callable[[str], DepthMap]:
        """Refined depth on the grids of `scene`. Where that is reduced, each full map is read
        once."""
        workspace, making = self.brief.workspace, self.making
        load = refined_depth(workspace, photos_of(workspace, self.names), self.brief.config)

        def reduced(name: str) -> DepthMap:
            if scene[name].reduction == 1:
                return load(name)
            found = making.once(REDUCED, name, lambda: vars(load(name)))
            return DepthMap(depth=found["depth"], confidence=found["confidence"])

        return reduced


@dataclass(frozen=True, kw_only=True)
class Rounds(_Comparison):
    """The depth of a view after a round of consensus is stored; after the last one that is what
    views agree on, and who has the same surface is stored beside it."""

    beside: Mapping[str, tuple[str, ...]]
    """Views that were taken from where each was."""
    turn: int
    """Which round, from 1."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.fusion import draw_together

        settings, scene, making = self.brief.config.fuse, self.scene(), self.making
        stored, drawn = making.after(self.turn - 1), making.after(self.turn)
        before = self.cache(
            desk, scene, f"round-{self.turn - 1}", lambda name: stored_depth(stored, name)
        )
        last = self.turn == settings.rounds

        def draw(name: str) -> None:
            if drawn.arrays_path(name).exists():
                return
            sources, beside = (
                [scene[other] for other in others[name]] for others in (self.sources, self.beside)
            )
            found = draw_together(scene[name], sources, before, settings, beside)
            if last:
                self.brief.items().write_arrays(name, packed(**vars(found.depth_map)))
                drawn.write_arrays(name, {"voters": found.voters})
            else:
                drawn.write_arrays(name, packed(**vars(found.depth_map)))

        return draw


@dataclass(frozen=True, kw_only=True)
class Gives(_Comparison):
    """Which pixels a view gives is stored, and what of later views is given with them."""

    claimants: Mapping[str, tuple[str, ...]]
    """Views that come before each and may claim what it has."""

    def open(self, desk: Desk) -> Callable[[str], float]:
        """Loads the scene. What is handed back is the share of the picture that others confirm."""
        from refdepth.fusion import Drawn, give

        settings, scene, making = self.brief.config.fuse, self.scene(), self.making
        agreed, voters = self.brief.items(), making.after(settings.rounds)

        def decide(name: str) -> float:
            view, given = scene[name], making.given
            depth_map = stored_depth(agreed, name)
            if not given.arrays_path(name).exists():
                sources = [scene[source] for source in self.sources[name]]
                found = give(
                    view,
                    Drawn(depth_map=depth_map, voters=voters.arrays(name)["voters"]),
                    sources,
                    (mask_of(given, other, name, scene) for other in self.claimants[name]),
                    [source.name for source in sources if name in self.claimants[source.name]],
                )
                masks = {name: found.mask, **found.claimed}
                given.write_arrays(name, {key: np.packbits(mask) for key, mask in masks.items()})
            return float(depth_map.valid.mean())

        return decide


@dataclass(frozen=True, kw_only=True)
class Points(_ViewStep):
    """The points that a view gives are stored."""

    gains: Mapping[str, NDArray[np.float64]]
    lattice: Lattice

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.fusion import given_rows, write_rows

        scene, making, agreed = self.scene(), self.making, self.brief.items()

        def make(name: str) -> None:
            if making.points.arrays_path(name).exists():
                return
            rows = given_rows(
                scene[name],
                stored_depth(agreed, name),
                mask_of(making.given, name, name, scene),
                gain=self.gains[name],
                lattice=self.lattice,
                voxel_px=self.brief.config.fuse.voxel_px,
            )
            with replacing(making.rows(name)) as temporary:
                index = write_rows(temporary, rows)
            making.points.write_arrays(name, dict(index))

        return make


@dataclass(frozen=True, kw_only=True)
class Tiles(_Step):
    """The cloud of a tile is stored."""

    tiles: Mapping[str, Tile]
    lattice: Lattice
    positions: type[np.floating[Any]]

    def open(self, desk: Desk) -> Callable[[str], int]:
        """Nothing to get ready. What is handed back is the number of points."""
        from refdepth.fusion import fuse_tile, read_rows
        from refdepth.io.ply import count_ply, write_ply

        making = self.making

        def fuse(number: str) -> int:
            path, tile = making.tile(number), self.tiles[number]
            if path.exists():
                return count_ply(path)

            def rows(name: str) -> Iterator[NDArray[np.void]]:
                return read_rows(making.rows(name), making.points.arrays(name), tile)

            pieces = fuse_tile(tile, rows, self.lattice, self.positions, scratch=making.folder)
            with replacing(path) as temporary:
                return write_ply(temporary, pieces)

        return fuse


def photos_of(workspace: Workspace, names: Sequence[str]) -> Scene:
    """The views of these names."""
    whole = load_scene(workspace)
    return Scene([whole[name] for name in names], whole.points)


def on_grids(scene: Scene, config: RunConfig) -> Scene:
    """A scene on the grids of fusion."""
    from refdepth.fusion.views import reduced_scene

    return reduced_scene(scene, config.fuse.max_pixels)


def refined_depth(
    workspace: Workspace, scene: Scene, config: RunConfig
) -> Callable[[str], DepthMap]:
    """The refined depth of views of `scene` on the grids of fusion."""
    from refdepth.fusion.views import reduced_depth

    items = ItemStore(workspace.stage_dir("refine"), "")
    return reduced_depth(scene, config.fuse.max_pixels, lambda name: stored_depth(items, name))
