"""What a stage is: a name, what determines its result, and how to make it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.performing import lost, perform
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.work import Finished, Result, Watch, Work
from refdepth.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)


class NotKnownYet(Exception):  # noqa: N818  (an answer, not a failure)
    """What a stage is made from is found out when it runs; the message says what that is."""


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What the stage's work on an item needs, wherever that is done."""

    root: Path
    """The workspace."""
    request: RunRequest
    stage: str
    item_fingerprint: str
    """Hash of all that determines what an item holds."""
    inputs: Mapping[str, Any]
    """What the stage's `inputs` returned."""

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened."""
        return Workspace(self.root)

    @property
    def folder(self) -> Path:
        """The stage's own folder."""
        return self.workspace.stage_dir(self.stage)

    @property
    def config(self) -> RunConfig:
        """All settings."""
        return self.request.config

    def items(self, subfolder: str = "", *, bare: bool = False) -> ItemStore:
        """The stage's per-item artifacts."""
        return ItemStore(self.folder / subfolder, self.item_fingerprint, bare=bare)


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
    own_name: Callable[[str], str] = str
    """What the owner of a photo calls it."""
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

    @property
    def brief(self) -> Brief:
        """What other processes need to know."""
        return Brief(
            root=self.workspace.root,
            request=self.request,
            stage=self.folder.name,
            item_fingerprint=self.item_fingerprint,
            inputs=dict(self.inputs),
        )

    def perform(
        self, label: str, work: Work[Result], names: Sequence[str], *, done: int = 0
    ) -> dict[str, Result]:
        """Has the executor do `work` for each of `names`; returns what it hands back.

        Progress counts from the `done` that were done before. Raises `StageError` where items ended
        the processes that tried them, after all others are done.
        """
        return perform(
            self.executor,
            work,
            names,
            self._watch(label, done, len(names)),
            finished=lambda item: self._log(label, item),
        )

    def stream(
        self, label: str, work: Work[Result], names: Sequence[str]
    ) -> Generator[tuple[str, Result], None, None]:
        """The same in the order of `names`, each as soon as it is its turn; what runs ahead is
        bounded. Raises `StageError` at the first that ended the processes that tried it."""
        watch = self._watch(label, 0, len(names))
        with closing(self.executor.run(work, names, watch, in_order=True)) as items:
            for item in items:
                self._log(label, item)
                if item.failed:
                    raise lost({item.name: item.failed})
                yield item.name, item.result  # type: ignore[misc]

    def perform_after(
        self,
        label: str,
        work: Work[Result],
        names: Sequence[str],
        after: Mapping[str, Sequence[str]],
    ) -> dict[str, Result]:
        """The same as `perform`, each item when those are done that `after` says of it, which come
        before it. Raises `StageError` at the first that ended the processes that tried it."""
        results: dict[str, Result] = {}
        watch = self._watch(label, 0, len(names))
        with closing(self.executor.run(work, names, watch, after=after)) as items:
            for item in items:
                self._log(label, item)
                if item.failed:
                    raise lost({item.name: item.failed})
                results[item.name] = item.result  # type: ignore[assignment]
        return results

    def _log(self, label: str, item: Finished[Any]) -> None:
        if not item.failed:
            by = f" by {item.place}" if item.place else ""
            name = self.own_name(item.name)
            logger.info("%s: %s done%s in %.2f s", label, name, by, item.seconds)

    def _watch(self, label: str, done: int, count: int) -> Watch:
        return Watch(
            cancellation=self.cancellation,
            progress=lambda share: self.progress.step(label, done + share, done + count),
        )

    def items(self, subfolder: str = "", *, bare: bool = False) -> ItemStore:
        """The stage's per-item artifacts."""
        return ItemStore(self.folder / subfolder, self.item_fingerprint, bare=bare)


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
