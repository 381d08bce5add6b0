"""Stage `fuse`: the refined depth of all views in one cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import RunConfig, RunRequest
from pipeline.files import replacing
from pipeline.items import ItemStore
from pipeline.stage import StageContext, StageOutcome
from pipeline.views import load_scene, select_views
from pipeline.workspace import Workspace
from refdepth.depth_map import DepthMap
from refdepth.errors import StageError
from refdepth.formats.ply import write_ply
from refdepth.fusion import fuse


class FuseStage:
    """Refined depth in, `cloud.ply` and one consistency mask a view out."""

    name = "fuse"
    version = 1
    upstream = ("sfm", "refine")

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The fusion settings."""
        return config.fuse.result_fields()

    def inputs(self, workspace: Workspace, request: RunRequest) -> Mapping[str, Any]:
        """Nothing from outside."""
        return {}

    def progress_of(self, workspace: Workspace, fingerprint: str) -> tuple[int, int] | None:
        """The stage is all or nothing."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Fuses and writes."""
        scene = load_scene(context.workspace)
        names = select_views(scene, context.given.views)
        refined = ItemStore(context.workspace.stage_dir("refine"), "")
        masks = context.folder / "masks"
        written = []

        def load(name: str) -> DepthMap:
            arrays = refined.arrays(name)
            return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])

        def keep_mask(name: str, consistent: Any) -> None:
            path = masks / f"{name}.png"
            with replacing(path) as temporary:
                Image.fromarray(consistent.astype(np.uint8) * 255).save(temporary, format="PNG")
            written.append(path)

        def report(done: int, total: int) -> None:
            context.cancellation.check()
            context.progress.step("fusing", done, total)

        cloud = fuse(
            scene, load, context.config.fuse, names=names, on_mask=keep_mask, progress=report
        )
        if len(cloud.points) == 0:
            raise StageError(
                "no depth is confirmed by a second view.",
                subject=self.name,
                action="Look at `refine`'s records for views that were turned down; photos with"
                " more overlap help.",
            )
        path = context.folder / "cloud.ply"
        with replacing(path) as temporary:
            write_ply(temporary, cloud)
        keep = {p.name for p in written}
        for stale in masks.glob("*.png"):
            if stale.name not in keep:
                stale.unlink(missing_ok=True)
        return StageOutcome(
            files=[path, *written],
            summary={"points": len(cloud.points), "views": len(names), **cloud.summary},
            headline=f"{len(cloud.points):,} points",
        )
