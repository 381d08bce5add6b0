"""Stage `refine`: every scaled depth map refined against its neighbours, in two rounds.

The first round works from photos alone; the second also uses the neighbours' first-round depth.
Each view of each round is one plain task; what is finished is never done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.working_view import WorkingView
from refdepth.ingest import NameTable
from refdepth.matching.neighbours import select_sources
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.devices import aside, count_places
from refdepth.pipeline.files import read_arrays, write_arrays
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.views import (
    WorkingViews,
    load_scene,
    photo_names,
    select_names,
    select_views,
)
from refdepth.pipeline.workspace import Workspace
from refdepth.refine.settings import RefineSettings
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparseDepth

if TYPE_CHECKING:
    from refdepth.refine.rounds import RefinedView
    from refdepth.render import Renderer

FIRST = "first"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class FirstRoundTask:
    """What the first round of one view needs."""

    name: str
    ref: WorkingView
    sources: tuple[WorkingView, ...]
    scaled: NDArray[np.float32]
    sparse: SparseDepth
    settings: RefineSettings
    seed: int


@dataclass(frozen=True, kw_only=True)
class SecondRoundTask(FirstRoundTask):
    """What the second round of one view needs."""

    first: DepthMap
    source_depths: tuple[DepthMap, ...]


class FileCheckpoint:
    """A refinement's state in one file, tied to the fingerprint it belongs to."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def load(self) -> dict[str, NDArray[Any]] | None:
        """The saved state; None when there is none for the present inputs."""
        try:
            state = read_arrays(self._path)
        except (OSError, ValueError):
            return None
        if str(state.pop("fingerprint", "")) != self._fingerprint:
            return None
        return state

    def save(self, state: dict[str, NDArray[Any]]) -> None:
        """Replaces the saved state."""
        self._path.parent.mkdir(exist_ok=True)
        write_arrays(self._path, {**state, "fingerprint": np.array(self._fingerprint)})

    def discard(self) -> None:
        """Forgets the state."""
        self._path.unlink(missing_ok=True)


class RefineStage:
    """Scaled depth and photos in, refined depth and confidence out."""

    name = "refine"
    version = 5
    upstream = ("sfm", "scale")

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The refinement settings and the seed."""
        return {**config.refine.result_fields(), "seed": config.runtime.seed}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Nothing from outside."""
        return {}

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """Which views were asked for."""
        patterns = sorted(set(request.inputs.views))
        return {"views": patterns} if patterns else {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """Finished views of the scaled ones that are asked for."""
        items = ItemStore(workspace.stage_dir(self.name), fingerprint)
        scaled = [
            path.name.removesuffix(".npz") for path in workspace.stage_dir("scale").glob("*.npz")
        ]
        try:
            names = (
                select_names(scaled, request.inputs.views, photo_names(workspace)) if scaled else ()
            )
        except InputError:  # a pattern that matches nothing: the stage itself will say so
            return None
        return (sum(items.is_done(name) for name in names), len(names)) if names else None

    def run(self, context: StageContext) -> StageOutcome:
        """Both rounds over all views that are not done."""
        scene = load_scene(context.workspace)
        names = photo_names(context.workspace)
        selected = select_views(scene, context.given.views, names)
        work = _Work(context, scene)
        chosen = set(select_views(scene, context.views, names))
        if context.views:
            for name in chosen & set(selected):
                work.final.record_path(name).unlink(missing_ok=True)
        todo = [name for name in selected if name in chosen and not work.final.is_done(name)]
        renderer = _renderer(context.config) if todo else None  # before hours of work, not after
        needed = work.with_sources(name for name in selected if name in chosen)
        work.first_rounds([name for name in needed if not work.first.is_done(name)])
        work.second_rounds(todo, renderer, done=len(selected) - len(todo), total=len(selected))
        left = [name for name in selected if not work.is_done(name)]
        # What another selection has finished stays; what has another fingerprint is of no use.
        work.final.remove_others(
            name for name in scene.names if name in selected or work.final.is_done(name)
        )
        work.first.remove_others(scene.names)
        if not left:  # a kill may have come between a result and the end of its checkpoint
            shutil.rmtree(context.folder / CHECKPOINTS, ignore_errors=True)
        return _outcome(work, selected, left, names)


class _Work:
    """The stage at work: what its tasks are built from and where results go."""

    def __init__(self, context: StageContext, scene: Scene) -> None:
        self.context = context
        self.scene = scene
        self.settings = context.config.refine
        self.final = context.items()
        self.first = context.items(FIRST)
        self.scaled = ItemStore(context.workspace.stage_dir("scale"), "")
        self._views = WorkingViews(scene, max_bytes=context.memory.photos, **self.settings.grid)
        self._sources: dict[str, tuple[str, ...]] = {}

    def sources(self, name: str) -> tuple[str, ...]:
        """The neighbours `name` is refined against, best first."""
        if name not in self._sources:
            self._sources[name] = select_sources(
                self.scene, self.scene[name], self.settings.sources
            )
        return self._sources[name]

    def with_sources(self, names: Iterable[str]) -> list[str]:
        """`names` and their neighbours."""
        return sorted({other for name in names for other in (name, *self.sources(name))})

    def is_done(self, name: str) -> bool:
        """Whether all that is kept of `name` is whole."""
        first = all(self.first.is_done(other) for other in self.with_sources([name]))
        return first and self.final.is_done(name)

    def first_rounds(self, names: list[str]) -> None:
        """Makes and stores the first round of `names`."""

        def tasks() -> Iterator[FirstRoundTask]:
            for number, name in enumerate(names):
                self.context.cancellation.check()
                self.context.progress.step("matching views", number, len(names))
                yield FirstRoundTask(name=name, **self._common(name))

        results = self.context.executor.map(run_first_round, tasks())
        for name, result in zip(names, results, strict=True):
            arrays = {"depth": result.depth, "confidence": result.confidence}
            self.first.write(name, arrays, result.record)

    def second_rounds(
        self, names: list[str], renderer: Renderer | None, *, done: int, total: int
    ) -> None:
        """Makes and stores the final depth of `names`."""
        made_on = {"device": "cpu", "renderer": None}
        if renderer is not None:
            made_on = {"device": renderer.device.type, "renderer": renderer.name}
        checkpoints: dict[str, FileCheckpoint] = {}
        finished = done

        def tasks() -> Iterator[SecondRoundTask]:
            for name in names:
                self.context.cancellation.check()
                self.context.progress.step("refining views", finished, total)
                yield SecondRoundTask(
                    name=name,
                    first=self._first_depth(name),
                    source_depths=tuple(self._first_depth(other) for other in self.sources(name)),
                    **self._common(name),
                )

        def refine(task: SecondRoundTask) -> RefinedView:
            checkpoint = FileCheckpoint(
                self.context.folder / CHECKPOINTS / f"{task.name}.npz",
                self.context.item_fingerprint,
            )
            checkpoints[task.name] = checkpoint

            def step(done: int, steps: int) -> None:
                self.context.cancellation.check()
                self.context.progress.step("refining views", finished + done / steps, total)

            return run_second_round(task, renderer, checkpoint, step)

        for name, result in zip(names, self.context.executor.map(refine, tasks()), strict=True):
            self.final.write(
                name,
                {"depth": result.depth, "confidence": result.confidence},
                {**result.record, **made_on},
            )
            checkpoints.pop(name).discard()
            finished += 1

    def _common(self, name: str) -> dict[str, Any]:
        view = self.scene[name]
        return {
            "ref": self._views[name],
            "sources": tuple(self._views[other] for other in self.sources(name)),
            "scaled": self.scaled.arrays(name)["depth"],
            "sparse": self.scene.sparse_depth(view),
            "settings": self.settings,
            "seed": self.context.config.runtime.seed,
        }

    def _first_depth(self, name: str) -> DepthMap:
        arrays = self.first.arrays(name)
        return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


def _renderer(config: RunConfig) -> Renderer | None:
    """The renderer for the gradient steps; None where none are asked for."""
    if not config.refine.gradient_steps:
        return None
    from refdepth.render import select_renderer

    return select_renderer(config.runtime.renderer, config.runtime.device)


def run_first_round(task: FirstRoundTask) -> RefinedView:
    """One view's first round, as a plain function of its task."""
    from refdepth.refine.rounds import first_round

    return first_round(
        task.ref,
        task.sources,
        scaled=task.scaled,
        sparse=task.sparse,
        settings=task.settings,
        seed=task.seed,
    )


def run_second_round(
    task: SecondRoundTask,
    renderer: Renderer | None,
    checkpoint: FileCheckpoint,
    progress: Callable[[int, int], None],
) -> RefinedView:
    """One view's second round, as a plain function of its task."""
    from refdepth.refine.rounds import second_round

    return second_round(
        task.ref,
        task.sources,
        scaled=task.scaled,
        sparse=task.sparse,
        first=task.first,
        source_depths=task.source_depths,
        settings=task.settings,
        renderer=renderer,
        seed=task.seed,
        checkpoint=checkpoint,
        progress=progress,
    )


def _outcome(
    work: _Work, selected: tuple[str, ...], left: list[str], names: NameTable
) -> StageOutcome:
    done = [name for name in selected if name not in left]
    records = {name: work.final.record(name) for name in done}
    accepted = [float(record.get("accepted_share", 1.0)) for record in records.values()]
    own = names.own
    kept = sorted(own(name) for name, record in records.items() if record.get("kept_prior"))
    flags = {own(name): record["flags"] for name, record in records.items() if record.get("flags")}
    share = float(np.mean(accepted)) if accepted else 0.0
    made_on = count_places(records.values())
    headline = f"{len(done) - len(kept)} views refined{aside(made_on)}"
    if kept:
        headline += f", {len(kept)} left as scaled"
    if left:
        headline = f"{len(done)} of {len(selected)} views done"
    return StageOutcome(
        files=[*work.final.paths(done), *work.first.paths(work.with_sources(selected))],
        summary={
            "views": len(done),
            "accepted_share": share,
            "kept_prior": kept,
            "flags": flags,
            "made_on": made_on,
            "sources": {own(name): [own(other) for other in work.sources(name)] for name in done},
        },
        headline=headline,
        complete=not left,
        warnings=[f"{name}: {', '.join(flags[name])}" for name in sorted(flags)],
    )
