"""Stage `fuse`: the refined depth of all views in one cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from refdepth.errors import StageError
from refdepth.fusion.settings import FusionSettings
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.files import replacing
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.views import load_scene, select_views
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.fusion import ViewConsistency

_POINT_BYTES = 400
"""Memory of one unmerged point: its row, and what sorting and merging add. Rounded up."""


class FuseStage:
    """Refined depth in, `cloud.ply` and one consistency mask a view out."""

    name = "fuse"
    version = 2
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
        from refdepth.fusion import fuse_pieces
        from refdepth.io.ply import write_ply

        scene = load_scene(context.workspace)
        names = select_views(scene, context.given.views)
        chosen = Scene([scene[name] for name in names], scene.points)
        refined = ItemStore(context.workspace.stage_dir("refine"), "")
        masks = context.folder / "masks"
        masks.mkdir(exist_ok=True)
        written: list[Path] = []
        kept: dict[str, float] = {}

        def load(name: str) -> DepthMap:
            arrays = refined.arrays(name)
            return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])

        def keep(name: str, checked: ViewConsistency) -> None:
            confirmed = checked.depth > 0
            kept[name] = float(confirmed.mean())
            path = masks / f"{name}.png"
            with replacing(path) as temporary:
                Image.fromarray(confirmed.astype(np.uint8) * 255).save(temporary, format="PNG")
            written.append(path)

        def report(done: int, total: int) -> None:
            context.cancellation.check()
            context.progress.step("fusing views", done, total)

        path = context.folder / "cloud.ply"
        with replacing(path) as temporary:
            pieces = fuse_pieces(
                chosen,
                load,
                _within(context.config.fuse, context.memory),
                report,
                on_view=keep,
                scratch=context.folder,
            )
            points = write_ply(temporary, pieces)
        if points == 0:
            raise StageError(
                "no depth is confirmed by a second view.",
                subject=self.name,
                action="Photos with more overlap help; `refdepth status` and the records in"
                " refine/ say which views were turned down.",
            )
        present = {mask.name for mask in written}
        for stale in masks.glob("*.png"):
            if stale.name not in present:
                stale.unlink(missing_ok=True)
        return StageOutcome(
            files=[path, *written],
            summary={"points": points, "views": len(names), "confirmed_share": kept},
            headline=f"{points:,} points from {len(names)} view" + "s" * (len(names) != 1),
        )


def _within(settings: FusionSettings, memory: MemoryBudget) -> FusionSettings:
    """The settings with no more held in memory than the budget allows."""
    return settings.model_copy(
        update={
            "cache_mb": min(settings.cache_mb, memory.depth_maps / 2**20),
            "memory_points": max(1, min(settings.memory_points, memory.points // _POINT_BYTES)),
        }
    )
