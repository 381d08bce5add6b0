"""Stage `fuse`: the refined depth of all views in one cloud, and the depth each view and others
agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refdepth.errors import StageError
from refdepth.pipeline.compact import compact
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.files import discard, replacing
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.memory import POINT_BYTES
from refdepth.pipeline.stage import Brief, StageContext, StageOutcome
from refdepth.pipeline.views import load_scene, photo_names, select_views
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.fusion import ColourRatio, DepthCache, KeptPixels

_WAITING_BYTES = 300
"""Memory for a pixel, of views that wait for their turn and the one that is fused."""
_SECONDS, _BYTES = 1.2, 100
"""Of a core for a megapixel, and memory for a pixel, of a view that is checked."""
_PHOTO_BYTES = 16
"""Memory for a pixel of its photo while that and its depth are read."""


class FuseStage:
    """Refined depth in, `cloud.ply` and the depth that views agree on out."""

    name = "fuse"
    version = 6
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
        """Fuses and writes."""
        from refdepth.fusion import even_gains, finest_first, fuse_kept
        from refdepth.fusion.views import typical_spacing
        from refdepth.io.ply import write_ply

        scene = load_scene(context.workspace)
        table = photo_names(context.workspace)
        names = select_views(scene, context.given.views, table)
        chosen = _chosen(scene, names, context.config)
        confirmed: dict[str, float] = {}
        common: dict[str, Any] = {
            "brief": context.brief,
            "cost": _cost(chosen, context),
            "names": names,
        }
        rounds = context.config.fuse.rounds
        checks = context.perform("checking views", CrossChecks(**common), names)
        ratios = [ratio for name in names for ratio in checks[name].colours]
        order = finest_first({name: checks[name].pixel_width for name in names})
        for turn in range(1, rounds + 1):
            context.perform("drawing views together", Rounds(**common, turn=turn), names)
            discard(context.items(_subfolder(turn - 1)).folder)
        taken = context.stream("fusing views", Takes(**common), order)

        def kept() -> Iterator[KeptPixels]:
            for name, pixels in taken:
                confirmed[name] = float(pixels.mask().mean())
                yield pixels

        path = context.folder / "cloud.ply"
        with replacing(path) as temporary, closing(taken):
            pieces = fuse_kept(
                chosen,
                kept(),
                context.config.fuse,
                gains=even_gains(names, ratios),
                spacing=typical_spacing(chosen, _refined(context.workspace, scene, context.config)),
                scratch=context.folder,
                memory_points=max(1, context.memory.points // POINT_BYTES),
            )
            points = write_ply(temporary, pieces)
        for folder in context.folder.glob(_subfolder("*")):
            discard(folder)
        if points == 0:
            raise StageError(
                "no depth is confirmed by a second view.",
                subject=self.name,
                action="Photos with more overlap help; `refdepth status` and the records in"
                " refine/ say which views were turned down.",
            )
        agreed = context.items()
        agreed.remove_others(names)
        discard(context.folder / "masks")  # of workspaces from before the agreed depth was kept
        return StageOutcome(
            files=[path, *map(agreed.arrays_path, names)],
            summary={
                "points": points,
                "views": len(names),
                "confirmed_share": {table.own(name): confirmed[name] for name in names},
            },
            headline=f"{points:,} points from {len(names)} view" + "s" * (len(names) != 1),
        )


@dataclass(frozen=True, kw_only=True)
class _OnViews:
    """What the steps of the stage share."""

    brief: Brief
    cost: Cost
    names: tuple[str, ...]
    """The views of the cloud."""

    def scene(self) -> Scene:
        """The views of the cloud, and the points."""
        return _chosen(load_scene(self.brief.workspace), self.names, self.brief.config)

    def cache(
        self, desk: Desk, scene: Scene, label: str, load: Callable[[str], DepthMap]
    ) -> DepthCache:
        """Depth maps of one step, shared by the works of this process; those of two steps are
        kept at a time."""
        from refdepth.fusion import DepthCache

        settings = self.brief.config.fuse.model_dump_json()
        key = label, self.brief.root, self.brief.inputs.get("refine"), self.names, settings
        return desk.keep(key, lambda: DepthCache(load, scene, desk.cache_bytes / 2 / 2**20))

    def after(self, desk: Desk, scene: Scene, turn: int) -> DepthCache:
        """The depth maps after round `turn`; 0: what the neighbours confirm."""
        stored = self.brief.items(_subfolder(turn))
        return self.cache(desk, scene, _subfolder(turn), lambda name: stored_depth(stored, name))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is handed back of a view that is checked."""

    colours: list[ColourRatio]
    """How it compares with its neighbours."""
    pixel_width: float


class CrossChecks(_OnViews):
    """What the neighbours confirm of a view is stored."""

    def open(self, desk: Desk) -> Callable[[str], Checked]:
        """Loads the scene."""
        from refdepth.fusion import Swatches, check_view, compare_colours, pixel_width, sources_of

        settings, scene = self.brief.config.fuse, self.scene()
        workspace, config = self.brief.workspace, self.brief.config
        confirmed = self.brief.items(_subfolder(0))
        refined = _refined(workspace, load_scene(workspace), config)
        load = self.cache(desk, scene, "refined", refined)

        swatches, ratio = Swatches(scene), settings.max_depth_ratio

        def check(name: str) -> Checked:
            view = scene[name]
            sources = sources_of(view, scene, settings)
            checked = check_view(view, sources, load, settings)
            confirmed.write_arrays(name, compact(checked.depth_map))
            return Checked(
                colours=compare_colours(view, checked.depth, sources, load, swatches, ratio),
                pixel_width=pixel_width(view, checked.depth),
            )

        return check


@dataclass(frozen=True, kw_only=True)
class Rounds(_OnViews):
    """The depth of a view after a round of consensus is stored; after the last one that is what
    views agree on, and who has the same surface is stored beside it."""

    turn: int
    """Which round, from 1."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.fusion import draw_together, sources_of

        settings, scene = self.brief.config.fuse, self.scene()
        before = self.after(desk, scene, self.turn - 1)
        beside = self.brief.items(_subfolder(self.turn))
        last = self.turn == settings.rounds
        drawn = self.brief.items() if last else beside

        def draw(name: str) -> None:
            view = scene[name]
            found = draw_together(view, sources_of(view, scene, settings), before, settings)
            drawn.write_arrays(name, compact(found.depth_map))
            if last:
                beside.write_arrays(name, {"voters": found.voters})

        return draw


class Takes(_OnViews):
    """What others confirm of a view is handed back."""

    def open(self, desk: Desk) -> Callable[[str], KeptPixels]:
        """Loads the scene."""
        from refdepth.fusion import Drawn, KeptPixels, sources_of

        settings, scene = self.brief.config.fuse, self.scene()
        agreed, beside = self.brief.items(), self.brief.items(_subfolder(settings.rounds))

        def take(name: str) -> KeptPixels:
            voters = beside.arrays(name)["voters"]
            drawn = Drawn(depth_map=stored_depth(agreed, name), voters=voters)
            return KeptPixels.of(scene[name], drawn, sources_of(scene[name], scene, settings))

        return take


def _chosen(scene: Scene, names: Sequence[str], config: RunConfig) -> Scene:
    """The views of the cloud on the grids of fusion, and the points."""
    from refdepth.fusion.views import reduced_scene

    chosen = Scene([scene[name] for name in names], scene.points)
    return reduced_scene(chosen, config.fuse.max_pixels)


def _refined(workspace: Workspace, scene: Scene, config: RunConfig) -> Callable[[str], DepthMap]:
    """The refined depth of views of `scene` on the grids of fusion."""
    from refdepth.fusion.views import reduced_depth

    items = ItemStore(workspace.stage_dir("refine"), "")
    return reduced_depth(scene, config.fuse.max_pixels, lambda name: stored_depth(items, name))


def _subfolder(turn: int | str) -> str:
    """Where the depth after a round lies until the stage is done; for "*" their pattern."""
    return f"round-{turn}"


def stored_depth(items: ItemStore, name: str) -> DepthMap:
    """A view's depth in one of the stores."""
    arrays = items.arrays(name)
    return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


def _cost(scene: Scene, context: StageContext) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    pixels = camera.width * camera.height
    photo = pixels * max(view.reduction for view in scene.views) ** 2
    return Cost(
        seconds=_SECONDS * pixels / 1e6,
        bytes=_BYTES * pixels + _PHOTO_BYTES * photo,
        cache_bytes=2 * (context.config.fuse.neighbours + 1) * 8 * pixels,
        here_bytes=min(context.memory.points, POINT_BYTES * pixels * len(scene))
        + _WAITING_BYTES * pixels,
    )
