"""What a stage is: a name, what determines its result, and how to make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.workspace import Workspace


class NotKnownYet(Exception):  # noqa: N818  (an answer, not a failure)
    """What a stage is made from is found out when it runs; the message says what that is."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """All that a stage may use."""

    workspace: Workspace
    request: RunRequest
    folder: Path
    """The stage's own folder; nothing is written elsewhere."""
    fingerprint: str
    """Hash of all that determines what the stage leaves."""
    item_fingerprint: str
    """The same of one item: which others were asked for does not count."""
    inputs: Mapping[str, Any]
    """What the stage's `inputs` and `selection` returned, and the upstream's fingerprints."""
    progress: Progress
    cancellation: Cancellation
    executor: Executor
    views: tuple[str, ...] = ()
    """Glob patterns of the views to work on; empty means all."""

    @property
    def config(self) -> RunConfig:
        """All settings."""
        return self.request.config

    @property
    def memory(self) -> MemoryBudget:
        """What the stage may hold besides the work on one view."""
        return MemoryBudget.of(self.config.runtime.max_memory_gb)

    @property
    def given(self) -> RunInputs:
        """Paths given from outside."""
        return self.request.inputs

    def items(self, subfolder: str = "") -> ItemStore:
        """The stage's per-item artifacts."""
        return ItemStore(self.folder / subfolder, self.item_fingerprint)


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What a stage made."""

    files: Sequence[Path]
    """Every artifact, inside the stage's folder."""
    summary: Mapping[str, Any]
    """JSON-able facts for the manifest, the closing summary and the report."""
    headline: str
    """The summary in half a line."""
    complete: bool = True
    """False when items are left to do: no manifest is written then."""
    warnings: Sequence[str] = field(default=())
    """What the user should know, one sentence each."""


class Stage(Protocol):
    """One step of the pipeline."""

    @property
    def name(self) -> str:
        """Name of the stage and of its folder."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the same inputs and settings would give another result."""
        ...

    @property
    def upstream(self) -> tuple[str, ...]:
        """Stages whose artifacts this one reads."""
        ...

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The fields of the configuration that determine the result."""
        ...

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Identity of everything from outside the workspace that determines the result.

        Downloads what is needed, unless one is only `looking`: then nothing is downloaded, no
        weights are read, and `NotKnownYet` is raised where the identity would need either.
        """
        ...

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """Which of its items the stage is asked for; empty: all. It determines what the stage
        leaves, and nothing in an item."""
        ...

    def run(self, context: StageContext) -> StageOutcome:
        """Makes or completes the artifacts in `context.folder`."""
        ...

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """How many items are done of how many are asked for, for a stage that is resumed by item
        and whose items have `fingerprint`; None when nothing is there or the stage is all or
        nothing."""
        ...
