"""Stage `fuse`: the refined depth of all views in one cloud, and the depth each view and others
agree on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from refdepth.errors import StageError
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.environment import release_freed_memory
from refdepth.pipeline.files import discard, replacing
from refdepth.pipeline.fusing import (
    CrossChecks,
    Gives,
    Points,
    Rounds,
    Tiles,
    on_grids,
    photos_of,
    refined_depth,
)
from refdepth.pipeline.making import REDUCED, SWATCHES, Checked, Making
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.views import forget_scene, load_scene, photo_names, select_views
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.types.cloud import PointCloud
from refdepth.types.scene import Scene, View

if TYPE_CHECKING:
    from refdepth.fusion.voxels import Lattice

_CLOUD = "cloud.ply"
_SECONDS, _BYTES = 1.2, 100
"""Of a core for a megapixel, and memory for a pixel, of a view that is checked."""
_GIVING_SECONDS, _POINTS_SECONDS = 0.2, 1.0
"""Of a core for a megapixel of a view that gives its surface, and whose points are made."""
_PHOTO_BYTES = 16
"""Memory for a pixel of its photo while that and its depth are read."""
_TILE_SECONDS, _POINT_BYTES = 0.5, 250
"""Of a core for a tile, and memory for one of its points before they are merged."""


class FuseStage:
    """Refined depth in, `cloud.ply` and the depth that views agree on out."""

    name = "fuse"
    version = 8
    upstream = ("sfm", "refine")

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The fusion settings."""
        return config.fuse.result_fields()

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Nothing from outside."""
        return {}

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """None: all of it is made."""
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """The stage is all or nothing."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Fuses and writes. What a run that was ended has left is not made again."""
        table = photo_names(context.workspace)
        names = select_views(load_scene(context.workspace), context.given.views, table)
        making = Making(context.brief)
        files = [context.folder / _CLOUD, *map(context.items().arrays_path, names)]
        facts = making.finished()
        if facts is None:
            facts = _fuse(context, making, names)
            making.finish(files, facts)
        making.end()
        points = facts["points"]
        shares = {table.own(name): share for name, share in facts["confirmed_share"].items()}
        return StageOutcome(
            files=files,
            summary={**facts, "views": len(names), "confirmed_share": shares},
            headline=f"{points:,} points from {len(names)} view" + "s" * (len(names) != 1),
        )


def _fuse(context: StageContext, making: Making, names: Sequence[str]) -> dict[str, Any]:
    """Makes the cloud of these views; what there is to say of it."""
    from refdepth.io.ply import read_ply_pieces, write_ply

    making.begin()
    chosen = _Chosen.of(context, names)
    release_freed_memory()  # who sees which point
    checks = _agree(context, making, chosen)
    confirmed, tiles = _cut(context, making, chosen, checks)
    counts = context.perform("fusing tiles", tiles, list(tiles.tiles))
    context.executor.rest()
    points = sum(counts.values())
    if not points:
        making.end()
        raise StageError(
            "no depth is confirmed by a second view.",
            subject=FuseStage.name,
            action="Photos with more overlap help; `refdepth status` and the records in refine/ say"
            " which views were turned down.",
        )
    for name in names:
        discard(making.rows(name))  # the cloud may need their place

    def pieces() -> Iterator[PointCloud]:
        for number in tiles.tiles:
            context.cancellation.check()
            yield from read_ply_pieces(making.tile(number))

    with replacing(context.folder / _CLOUD) as temporary:
        write_ply(temporary, pieces())
    context.items().remove_others(names)
    discard(context.folder / "masks")  # of workspaces from before the agreed depth was kept
    return {"points": points, "tiles": len(counts), "confirmed_share": confirmed}


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The views of the cloud."""

    scene: Scene
    """On the grids of fusion."""
    sources: Mapping[str, tuple[str, ...]]
    """The views that each is compared with, best first."""
    beside: Mapping[str, tuple[str, ...]]
    """Those taken from the same place: other faces of a panorama."""
    lattice: Lattice
    """Where the cloud's voxels lie."""
    cost: Cost
    """Of checking one."""

    @classmethod
    def of(cls, context: StageContext, names: Sequence[str]) -> _Chosen:
        """Finds their neighbours."""
        from refdepth.fusion import beside_of, sources_of
        from refdepth.fusion.views import scene_lattice

        workspace, config = context.workspace, context.config
        photos = photos_of(workspace, names)
        scene = on_grids(photos, config)
        sources, beside = {}, {}
        for view in scene.views:
            context.cancellation.check()
            sources[view.name] = _names(sources_of(view, scene, config.fuse))
            beside[view.name] = _names(beside_of(view, scene))
        lattice = scene_lattice(scene, config.fuse, refined_depth(workspace, photos, config))
        forget_scene()
        return cls(
            scene=on_grids(photos_of(workspace, names), config),  # without what neighbours took
            sources=sources,
            beside=beside,
            lattice=lattice,
            cost=_cost(scene, config.fuse.neighbours),
        )

    def cost_of(self, seconds: float) -> Cost:
        """Of other work on a view, `seconds` for a megapixel."""
        return replace(self.cost, seconds=seconds / _SECONDS * self.cost.seconds)


def _names(views: Iterable[View]) -> tuple[str, ...]:
    return tuple(view.name for view in views)


def _agree(context: StageContext, making: Making, chosen: _Chosen) -> dict[str, Checked]:
    """Has the views checked and drawn together; what the checks say."""
    names = chosen.scene.names
    common: dict[str, Any] = {
        "brief": context.brief,
        "cost": chosen.cost,
        "names": names,
        "sources": chosen.sources,
    }
    checks = context.perform("checking views", CrossChecks(**common), names)
    for subfolder in (REDUCED, SWATCHES):
        discard(making.store(subfolder).folder)
    rounds = context.config.fuse.rounds
    begun = [turn for turn in range(1, rounds + 1) if making.after(turn).folder.exists()]
    for turn in range(max(begun, default=1), rounds + 1):  # one begins when that before it is done
        work = Rounds(**common, beside=chosen.beside, turn=turn)
        context.perform("drawing views together", work, names)
        discard(making.after(turn - 1).folder)
    return checks


def _cut(
    context: StageContext, making: Making, chosen: _Chosen, checks: Mapping[str, Checked]
) -> tuple[dict[str, float], Tiles]:
    """Has the points of all views made; which share of each view is confirmed, and the tiles that
    hold the points."""
    from refdepth.fusion import claimants_of, cut_tiles, even_gains, finest_first
    from refdepth.fusion.tiles import TILE_POINTS
    from refdepth.fusion.views import position_type

    scene, names, sources = chosen.scene, chosen.scene.names, chosen.sources
    common: dict[str, Any] = {"brief": context.brief, "names": names}
    order = finest_first({name: checks[name].pixel_width for name in names})
    claimants = claimants_of(order, sources)
    gives = Gives(
        **common, sources=sources, claimants=claimants, cost=chosen.cost_of(_GIVING_SECONDS)
    )
    confirmed = context.perform_after("choosing what views give", gives, order, claimants)
    ratios = [ratio for name in names for ratio in checks[name].colours]
    work = Points(
        **common,
        cost=chosen.cost_of(_POINTS_SECONDS),
        gains=even_gains(names, ratios),
        lattice=chosen.lattice,
    )
    context.perform("making points", work, names)
    tiles = cut_tiles(order, making.points.arrays, TILE_POINTS)
    return confirmed, Tiles(
        brief=context.brief,
        cost=Cost(seconds=_TILE_SECONDS, bytes=_POINT_BYTES * TILE_POINTS),
        tiles={f"{number:06d}": tile for number, tile in enumerate(tiles)},
        lattice=chosen.lattice,
        positions=position_type(scene, chosen.lattice.voxel),
    )


def _cost(scene: Scene, neighbours: int) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    pixels = camera.width * camera.height
    photo = pixels * max(view.reduction for view in scene.views) ** 2
    return Cost(
        seconds=_SECONDS * pixels / 1e6,
        bytes=_BYTES * pixels + _PHOTO_BYTES * photo,
        cache_bytes=(neighbours + 1) * 8 * pixels,
    )
