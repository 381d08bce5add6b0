"""Stage `fuse`: the refined depth of all views in one cloud, and the depth each view and others
agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import StageError
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
    from refdepth.fusion import KeptPixels

_MANTISSA_BITS = 23  # of float32
_DEPTH_BITS = 16
"""Agreed depth is stored to 2**-17 of itself, far below what any view knows: it compresses then."""
_LEVELS = 255
"""Levels of stored confidence."""
_WAITING_BYTES = 480
"""Memory for a pixel, of views that wait for their turn and the one that is fused."""
_SECONDS, _BYTES = 1.2, 100
"""Of a core for a megapixel, and memory for a pixel, of a view that is checked."""


class FuseStage:
    """Refined depth in, `cloud.ply` and the depth that views agree on out."""

    name = "fuse"
    version = 3
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
        from refdepth.fusion import fuse_kept
        from refdepth.fusion.views import typical_spacing
        from refdepth.io.ply import write_ply

        scene = load_scene(context.workspace)
        table = photo_names(context.workspace)
        names = select_views(scene, context.given.views, table)
        chosen = Scene([scene[name] for name in names], scene.points)
        confirmed: dict[str, float] = {}
        refined = ItemStore(context.workspace.stage_dir("refine"), "")
        checks = context.stream(
            "fusing views",
            CrossChecks(brief=context.brief, cost=_cost(chosen, context), names=names),
            names,
        )

        def kept() -> Iterator[KeptPixels]:
            for name, pixels in checks:
                confirmed[table.own(name)] = float(pixels.mask().mean())
                yield pixels

        path = context.folder / "cloud.ply"
        with replacing(path) as temporary, closing(checks):
            pieces = fuse_kept(
                chosen,
                kept(),
                context.config.fuse,
                spacing=typical_spacing(chosen, lambda name: refined_depth(refined, name)),
                scratch=context.folder,
                memory_points=max(1, context.memory.points // POINT_BYTES),
            )
            points = write_ply(temporary, pieces)
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
            summary={"points": points, "views": len(names), "confirmed_share": confirmed},
            headline=f"{points:,} points from {len(names)} view" + "s" * (len(names) != 1),
        )


@dataclass(frozen=True, kw_only=True)
class CrossChecks:
    """What the neighbours say about a view: the agreed depth is stored, its pixels handed back."""

    brief: Brief
    cost: Cost
    names: tuple[str, ...]
    """The views of the cloud."""

    def open(self, desk: Desk) -> Callable[[str], KeptPixels]:
        """Loads the scene."""
        from refdepth.fusion import DepthCache, KeptPixels, check_view, sources_of

        settings = self.brief.config.fuse
        key = self.brief.root, self.brief.inputs.get("refine"), self.names
        whole = load_scene(self.brief.workspace)
        scene = Scene([whole[name] for name in self.names], whole.points)
        refined = ItemStore(self.brief.workspace.stage_dir("refine"), "")
        agreed = self.brief.items()
        load = desk.keep(
            ("depth", *key),
            lambda: DepthCache(
                lambda name: refined_depth(refined, name), scene, desk.cache_bytes / 2**20
            ),
        )

        def check(name: str) -> KeptPixels:
            view = scene[name]
            checked = check_view(view, sources_of(view, scene, settings), load, settings)
            agreed.write_arrays(name, compact(checked.depth_map), compressed=True)
            return KeptPixels.of(view, checked)

        return check


def refined_depth(items: ItemStore, name: str) -> DepthMap:
    """The stored refined depth of a view."""
    arrays = items.arrays(name)
    return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


def _cost(scene: Scene, context: StageContext) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    pixels = camera.width * camera.height
    return Cost(
        seconds=_SECONDS * pixels / 1e6,
        bytes=_BYTES * pixels,
        cache_bytes=2 * (context.config.fuse.neighbours + 1) * 8 * pixels,
        here_bytes=min(context.memory.points, POINT_BYTES * pixels * len(scene))
        + _WAITING_BYTES * pixels,
    )


def compact(depth_map: DepthMap) -> dict[str, NDArray[np.float32]]:
    """Depth and confidence as arrays that compress well: rounded to what they can mean."""
    spare = _MANTISSA_BITS - _DEPTH_BITS
    raw = depth_map.depth.view(np.uint32) + np.uint32(1 << (spare - 1))
    levels = np.rint(depth_map.confidence * _LEVELS)
    return {
        "depth": (raw >> spare << spare).view(np.float32),
        "confidence": (levels / _LEVELS).astype(np.float32),
    }
