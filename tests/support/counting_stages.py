"""Three stages that only count what they make, and a workspace for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.stage import NotKnownYet, StageContext, StageOutcome
from refdepth.pipeline.workspace import Workspace

ITEMS = ("a", "b", "c")


class CountingStage:
    """Doubles the upstream's numbers; counts its runs and the items it makes."""

    version = 1

    def __init__(self, name: str, upstream: tuple[str, ...] = ()) -> None:
        self.name = name
        self.upstream = upstream
        self.runs = 0
        self.made: list[str] = []
        self.stop_after: int | None = None
        self.found_out_late = False
        """Whether what it is made from is known only when it runs."""

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"iterations": config.refine.iterations} if self.name == "last" else {}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        if self.upstream:
            return {}
        if self.found_out_late and looking:
            raise NotKnownYet("weights are looked up")
        images = Path(request.inputs.images)
        if not images.is_dir():
            raise InputError("is gone.", subject=images)
        return {"photos": workspace.folder_hash(images)}

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        from refdepth.pipeline.items import ItemStore

        items = ItemStore(workspace.stage_dir(self.name), fingerprint)
        return sum(items.is_done(name) for name in ITEMS), len(ITEMS)

    def run(self, context: StageContext) -> StageOutcome:
        self.runs += 1
        items = context.items()
        for number, name in enumerate(ITEMS):
            context.cancellation.check()
            if items.is_done(name):
                continue
            if self.stop_after is not None and number >= self.stop_after:
                raise KeyboardInterrupt
            self.made.append(name)
            items.write(name, {"x": np.full(3, number)}, {})
        return StageOutcome(files=items.paths(ITEMS), summary={"n": 3}, headline="3 things")


def runs(stages: dict[str, CountingStage]) -> list[int]:
    return [stage.runs for stage in stages.values()]
