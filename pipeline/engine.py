"""Runs stages: decides what is valid, makes what is not, leaves a manifest."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from refdepth.errors import ConfigurationError, InputError, StageError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.compile_ahead import LABEL, ROOMS, Compilation, kernels_to_compile
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.environment import release_freed_memory
from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.files import (
    discard,
    disk_is_full,
    hash_json,
    list_files,
    remove_temporaries,
    resource_error,
)
from refdepth.pipeline.manifest import MANIFEST_NAME, Manifest, library_versions, record_files
from refdepth.pipeline.memory import PeakMemory, is_out_of_memory, memory_error
from refdepth.pipeline.progress import Progress, Silent
from refdepth.pipeline.registry import STAGES
from refdepth.pipeline.spare import described
from refdepth.pipeline.stage import NotKnownYet, Stage, StageContext, StageOutcome
from refdepth.pipeline.stage_status import (
    StageState,
    StageStatus,
    difference,
    to_make,
    undecided,
)
from refdepth.pipeline.views import errors_by_photo, photo_names
from refdepth.pipeline.workspace import Workspace

__all__ = ["Engine", "StageState", "StageStatus", "stage_names"]

logger = logging.getLogger(__name__)


_ASKED_AFTER = {"prepare": "sfm"}
"""Stage to the one whose outside inputs depend on what it has made: which photos say how wide their
lens is."""


def stage_names() -> list[str]:
    """All stages in order."""
    return [stage.name for stage in STAGES]


class Engine:
    """One run over one workspace; the caller holds its lock."""

    def __init__(
        self,
        workspace: Workspace,
        request: RunRequest,
        *,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.workspace = workspace
        self.request = request
        self.progress: Progress = progress or Silent()
        self.cancellation = cancellation or Cancellation()
        self.executor: Executor = executor or SerialExecutor()
        self._inputs: dict[tuple[str, bool], dict[str, Any]] = {}
        self._planned: list[str] = []
        """Stages that will be made, as far as is known."""

    def status(self, *, thorough: bool = False) -> list[StageStatus]:
        """How every stage stands, in order. `thorough` reads every artifact. Nothing is computed,
        downloaded or written."""
        return list(self._look(STAGES, {}, thorough=thorough).values())

    def reconstruct(self, *, until: str | None = None, resume: bool = True) -> list[StageStatus]:
        """Makes what is not valid, in order, up to and with stage `until`; what was cleaned only
        where one of these stages reads it.

        What stages that have to run need from outside is fetched before anything is made, so that
        missing weights or a wrong folder end the run at once.
        """
        stages = STAGES[: 1 + stage_names().index(until)] if until else STAGES
        asked = () if resume else [stage.name for stage in stages]
        planned = to_make(self._look(stages, {}).values(), asked)
        self._planned = [stage.name for stage in stages if stage.name in planned]
        for stage in stages:
            self._outside(stage, looking=stage.name not in planned)
        self.workspace.save_hashes()
        statuses: dict[str, StageStatus] = {}
        for number, stage in enumerate(stages):
            status = self._inspect(stage, statuses, looking=stage.name not in planned)
            valid = status.state is StageState.DONE
            if status.state is StageState.CLEANED:  # what was not known before may be known now
                rest = self._look(stages[number + 1 :], {**statuses, stage.name: status})
                valid = stage.name not in to_make(rest.values())
            if valid and resume:
                logger.info("%s: valid, reused", stage.name)
                self.progress.stage_reused(stage.name)
            else:
                status = self._make(stage, status, fresh=not resume)
            statuses[stage.name] = status
        return list(statuses.values())

    def run_stage(
        self, name: str, *, resume: bool = False, views: tuple[str, ...] = ()
    ) -> StageStatus:
        """Runs one stage again from its inputs, or continues it.

        Raises `StageError` when an upstream stage is not valid.
        """
        if name not in stage_names():
            raise ConfigurationError(
                "is not a stage.", subject=name, action=f"Use one of {', '.join(stage_names())}."
            )
        statuses: dict[str, StageStatus] = {}
        for stage in STAGES:
            status = self._inspect(stage, statuses, looking=True)
            if stage.name == name:
                if resume and status.state is StageState.DONE and not views:
                    self.progress.stage_reused(name)
                    return status
                _check_served(name, statuses)
                status = self._inspect(stage, statuses, looking=False)
                return self._make(stage, status, fresh=not resume and not views, views=views)
            statuses[stage.name] = status
            if not status.is_valid and stage.name in _ancestors(name):
                raise StageError(
                    f"needs {stage.name}, which is {status.state} ({status.why}).",
                    subject=name,
                    action=f"Run `refdepth stage {stage.name}` first, or `refdepth reconstruct`.",
                )
        raise AssertionError(name)

    def _look(
        self, stages: Sequence[Stage], before: Mapping[str, StageStatus], *, thorough: bool = False
    ) -> dict[str, StageStatus]:
        """How `stages` stand after those `before` them, all by name."""
        statuses = dict(before)
        for stage in stages:
            statuses[stage.name] = self._inspect(stage, statuses, looking=True, thorough=thorough)
        return statuses

    def _inspect(
        self,
        stage: Stage,
        before: Mapping[str, StageStatus],
        *,
        looking: bool,
        thorough: bool = False,
    ) -> StageStatus:
        folder = self.workspace.stage_dir(stage.name)
        manifest, present = Manifest.read(folder), list_files(folder)
        size = sum(size for size, _ in present.values())
        settings = dict(stage.settings(self.request.config))
        upstream = {name: before[name].fingerprint for name in stage.upstream}
        try:
            for name in stage.upstream:
                if not upstream[name]:
                    raise NotKnownYet(f"decided when {name} has run")
            inputs = self._outside(stage, looking=looking)
        except NotKnownYet as unknown:
            return undecided(stage, manifest, str(unknown), size)
        item_fingerprint = hash_json([stage.name, stage.version, settings, inputs, upstream])
        selection = dict(stage.selection(self.request))
        fingerprint = hash_json([item_fingerprint, selection]) if selection else item_fingerprint
        inputs = {**inputs, **selection, **upstream}
        items = None
        if manifest is None:
            items = stage.progress_of(self.workspace, self.request, item_fingerprint)
            state = StageState.PARTIAL if items and items[0] else StageState.MISSING
            why = f"{items[0]} of {items[1]} done" if items and items[0] else "not made yet"
            if (folder / MANIFEST_NAME).exists():
                why = f"its manifest was edited or cannot be read, {why}"
        elif manifest.fingerprint != fingerprint:
            items = stage.progress_of(self.workspace, self.request, item_fingerprint)
            state = StageState.PARTIAL if items and items[0] else StageState.STALE
            why = difference(stage, manifest, settings, inputs)
        else:
            damaged = manifest.damaged_files(folder, present=present, thorough=thorough)
            state, why = StageState.DONE, ""
            if damaged:
                state, why = StageState.DAMAGED, f"{damaged[0]} is gone or changed"
                why += f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            elif manifest.dropped:
                state, why = StageState.CLEANED, f"without {described(manifest.dropped)}"
        return StageStatus(
            name=stage.name,
            state=state,
            why=why,
            fingerprint=fingerprint,
            item_fingerprint=item_fingerprint,
            inputs=inputs,
            manifest=manifest and manifest.without_files,
            items=items,
            bytes=size,
        )

    def _outside(self, stage: Stage, *, looking: bool) -> dict[str, Any]:
        """Identity of the stage's outside inputs, asked for once a run; of those it was made from
        where they are gone."""
        if (stage.name, looking) not in self._inputs:
            try:
                identity = dict(stage.inputs(self.workspace, self.request, looking=looking))
            except InputError as error:
                manifest = Manifest.read(self.workspace.stage_dir(stage.name))
                if manifest is None:
                    raise
                logger.info("%s: inputs not at hand (%s); those recorded count", stage.name, error)
                identity = {k: v for k, v in manifest.inputs.items() if k not in stage.upstream}
            self._inputs[stage.name, looking] = identity
        return self._inputs[stage.name, looking]

    def _make(
        self, stage: Stage, status: StageStatus, *, fresh: bool, views: tuple[str, ...] = ()
    ) -> StageStatus:
        folder = self.workspace.stage_dir(stage.name)
        why = "asked for" if status.state is StageState.DONE else status.why
        logger.info("%s: %s", stage.name, why)
        self.progress.stage_started(stage.name, why)
        names = cache(lambda: photo_names(self.workspace))
        context = StageContext(
            workspace=self.workspace,
            request=self.request,
            folder=folder,
            fingerprint=status.fingerprint,
            item_fingerprint=status.item_fingerprint,
            inputs=status.inputs,
            progress=self.progress,
            cancellation=self.cancellation,
            executor=self.executor,
            own_name=lambda name: names().own(name),
            views=views,
        )
        release_freed_memory()  # of manifests, which list thousands of files
        started = time.monotonic()
        peak = PeakMemory()
        self.executor.peak_mb()  # from now on
        try:
            folder.mkdir(exist_ok=True)
            if fresh:
                _forget(context)
            self.cancellation.check()
            if stage.name in ROOMS:
                kernels = kernels_to_compile((stage.name, *self._planned))
                for _ in context.stream(LABEL, Compilation(), kernels):
                    pass  # in order: the one that takes longest is not the last to begin
            with errors_by_photo(self.workspace):
                outcome = stage.run(context)
        except StageError as error:
            if disk_is_full(folder):  # what a library makes of it is seldom clear
                raise resource_error(OSError(errno.ENOSPC, error.message), folder) from error
            raise
        except (MemoryError, RuntimeError, OSError, ImportError) as error:
            if is_out_of_memory(error):
                raise memory_error(stage.name) from error
            if isinstance(error, OSError):
                place = error.filename if isinstance(error.filename, str) else folder
                raise resource_error(error, Path(place)) from error
            raise
        remove_temporaries(folder)  # a worker that died may have left some
        if (after := _ASKED_AFTER.get(stage.name)) is not None:
            for looking in (True, False):
                self._inputs.pop((after, looking), None)
        seconds = time.monotonic() - started
        if not outcome.complete:
            self.progress.stage_finished(stage.name, seconds, outcome.headline)
            return replace(status, state=StageState.PARTIAL, why=outcome.headline)
        peak_mb = peak.megabytes() + self.executor.peak_mb()
        manifest = self._record(stage, context, outcome, seconds, peak_mb)
        for warning in outcome.warnings:
            logger.warning("%s: %s", stage.name, warning)
        logger.info("%s: %s in %.1f s", stage.name, outcome.headline, seconds)
        self.progress.stage_finished(stage.name, seconds, outcome.headline)
        return replace(status, state=StageState.DONE, why="", manifest=manifest, items=None)

    def _record(
        self,
        stage: Stage,
        context: StageContext,
        outcome: StageOutcome,
        seconds: float,
        peak_memory_mb: float,
    ) -> Manifest:
        manifest = Manifest(
            stage=stage.name,
            version=stage.version,
            fingerprint=context.fingerprint,
            settings=dict(stage.settings(self.request.config)),
            inputs=dict(context.inputs),
            files=record_files(context.folder, outcome.files),
            summary={
                **outcome.summary,
                "headline": outcome.headline,
                "warnings": list(outcome.warnings),
            },
            libraries=library_versions(),
            seconds=round(seconds, 3),
            peak_memory_mb=round(peak_memory_mb, 1),
        )
        manifest.write(context.folder)
        return manifest.without_files


def _ancestors(name: str) -> set[str]:
    by_name = {stage.name: stage for stage in STAGES}
    found: set[str] = set()
    waiting = list(by_name[name].upstream)
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(by_name[current].upstream)
    return found


def _check_served(name: str, statuses: Mapping[str, StageStatus]) -> None:
    """Raises `StageError` where an earlier stage was cleaned of what stage `name` reads."""
    making = to_make(statuses.values(), [name])
    lacking = [other for other in statuses if other in making and statuses[other].is_valid]
    if lacking:
        again = ", then ".join(f"`refdepth stage {other} --resume`" for other in lacking)
        raise StageError(
            f"needs what `refdepth clean` has dropped of {', '.join(lacking)}.",
            subject=name,
            action=f"Run {again} first.",
        )


def _forget(context: StageContext) -> None:
    """Makes every item count as not done. The data stay until they are replaced."""
    (context.folder / MANIFEST_NAME).unlink(missing_ok=True)
    for record in context.folder.rglob("*.json"):
        discard(record)
