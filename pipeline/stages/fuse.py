"""Stage `fuse`: the refined depth of all views in one cloud, and the depth each view and others
agree on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import StageError
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.files import discard, replacing
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.memory import POINT_BYTES
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.views import load_scene, photo_names, select_views
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.fusion import ViewConsistency

_MANTISSA_BITS = 23  # of float32
_DEPTH_BITS = 16
"""Agreed depth is stored to 2**-17 of itself, far below what any view knows: it compresses then."""
_LEVELS = 255
"""Levels of stored confidence."""


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
        from refdepth.fusion import fuse_pieces
        from refdepth.io.ply import write_ply

        scene = load_scene(context.workspace)
        table = photo_names(context.workspace)
        names = select_views(scene, context.given.views, table)
        chosen = Scene([scene[name] for name in names], scene.points)
        refined = ItemStore(context.workspace.stage_dir("refine"), "")
        agreed = context.items()
        confirmed: dict[str, float] = {}
        written: list[Path] = []

        def load(name: str) -> DepthMap:
            arrays = refined.arrays(name)
            return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])

        def keep(name: str, checked: ViewConsistency) -> None:
            confirmed[table.own(name)] = float(checked.mask.mean())
            written.append(agreed.write_arrays(name, compact(checked.depth_map), compressed=True))

        def report(done: int, total: int) -> None:
            context.cancellation.check()
            context.progress.step("fusing views", done, total)

        memory = context.memory
        path = context.folder / "cloud.ply"
        with replacing(path) as temporary:
            pieces = fuse_pieces(
                chosen,
                load,
                context.config.fuse,
                report,
                on_view=keep,
                scratch=context.folder,
                cache_mb=memory.depth_maps / 2**20,
                memory_points=max(1, memory.points // POINT_BYTES),
            )
            points = write_ply(temporary, pieces)
        if points == 0:
            raise StageError(
                "no depth is confirmed by a second view.",
                subject=self.name,
                action="Photos with more overlap help; `refdepth status` and the records in"
                " refine/ say which views were turned down.",
            )
        agreed.remove_others(names)
        discard(context.folder / "masks")  # of workspaces from before the agreed depth was kept
        return StageOutcome(
            files=[path, *written],
            summary={"points": points, "views": len(names), "confirmed_share": confirmed},
            headline=f"{points:,} points from {len(names)} view" + "s" * (len(names) != 1),
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
