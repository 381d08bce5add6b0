"""Stage `refine`: every scaled depth map refined against its neighbours, in two rounds.

The first round works from photos alone; the second also uses the neighbours' first-round depth.
Then the scene's confidence is calibrated (see `calibration`). Each view of each round is one plain
task; what is finished is never done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.ingest import NameTable
from refdepth.matching.neighbours import closest_views, select_sources
from refdepth.pipeline.calibration import SECOND, Calibrating, curve_of, is_made_under, second_item
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.devices import aside, count_places, gpus
from refdepth.pipeline.files import read_arrays, write_arrays
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import Brief, StageContext, StageOutcome
from refdepth.pipeline.views import (
    WorkingViews,
    load_scene,
    photo_names,
    select_names,
    select_views,
)
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.render.selection import DeviceName, RendererName
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.geometry.working_view import WorkingView
    from refdepth.refine.rounds import RefinedView
    from refdepth.render import Renderer

FIRST = "first"
CHECKPOINTS = "checkpoints"
_FIRST_SECONDS, _SECOND_SECONDS = 4.0, 8.0
"""Of a core, for a megapixel of the working grid; whether workers are worth starting."""
_PHOTO_BYTES, _GRID_BYTES = 40, 1200
"""Memory of a task for each pixel of a photo and of its working grid."""
_CACHED_VIEWS = 24
"""Working views worth keeping between neighbouring views."""


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
    version = 9
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
        items = ItemStore(workspace.stage_dir(self.name) / SECOND, fingerprint)
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
        work = _Plan(context, scene)
        chosen = set(select_views(scene, context.views, names))
        if context.views:
            for name in chosen & set(selected):
                work.second.record_path(name).unlink(missing_ok=True)
        todo = [name for name in selected if name in chosen and not work.second.is_done(name)]
        on_gpu = bool(todo) and _on_gpu(context.config)
        needed = work.with_sources(name for name in selected if name in chosen)
        missing = [name for name in needed if not work.first.is_done(name)]
        context.perform(
            "matching views",
            FirstRounds(
                brief=context.brief,
                cost=_cost(scene, context.config, _FIRST_SECONDS),
                sources={name: work.sources(name) for name in missing},
                errors=work.errors,
            ),
            missing,
        )
        context.perform(
            "refining views",
            SecondRounds(
                brief=context.brief,
                cost=_cost(scene, context.config, _SECOND_SECONDS, gpu=on_gpu),
                sources={name: work.sources(name) for name in todo},
                errors=work.errors,
            ),
            todo,
            done=len(selected) - len(todo),
        )
        left = [name for name in selected if not work.is_done(name)]
        calibration: dict[str, Any] = {}
        if not left:
            curve, calibration = curve_of(work.second, selected)
            context.perform(
                "calibrating",
                Calibrating.of(context.brief, scene.typical_camera, curve),
                [name for name in selected if not is_made_under(curve, work.final, name)],
            )
        # What another selection has finished stays; what has another fingerprint is of no use.
        work.final.remove_others(
            name for name in scene.names if name in selected or work.final.is_done(name)
        )
        work.second.remove_others(
            name for name in scene.names if name in selected or work.second.is_done(name)
        )
        work.first.remove_others(scene.names)
        if not left:  # a kill may have come between a result and the end of its checkpoint
            shutil.rmtree(context.folder / CHECKPOINTS, ignore_errors=True)
        return _outcome(work, selected, left, names, calibration)


class _Plan:
    """Which views need which, and where their results lie."""

    def __init__(self, context: StageContext, scene: Scene) -> None:
        self.scene = scene
        self.final = context.items()
        self.first = context.items(FIRST)
        self.second = context.items(SECOND)
        self.errors = _prior_errors(context.workspace, scene)
        """How far off each view's scaled prior is taken to be, in log depth."""
        self._count = context.config.refine.sources
        self._sources: dict[str, tuple[str, ...]] = {}

    def sources(self, name: str) -> tuple[str, ...]:
        """The neighbours `name` is refined against, best first."""
        if name not in self._sources:
            self._sources[name] = select_sources(self.scene, self.scene[name], self._count)
        return self._sources[name]

    def with_sources(self, names: Iterable[str]) -> list[str]:
        """`names` and their neighbours."""
        return sorted({other for name in names for other in (name, *self.sources(name))})

    def is_done(self, name: str) -> bool:
        """Whether both rounds of `name` are whole."""
        first = all(self.first.is_done(other) for other in self.with_sources([name]))
        return first and self.second.is_done(name)


@dataclass(frozen=True, kw_only=True)
class FirstRounds:
    """The first round of a view, from photos alone."""

    brief: Brief
    cost: Cost
    sources: Mapping[str, tuple[str, ...]]
    """The neighbours each view is matched against, best first."""
    errors: Mapping[str, float]
    """How far off each view's scaled prior is taken to be, in log depth."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.refine.rounds import first_round

        table = _Table(self.brief, desk)

        def make(name: str) -> None:
            if table.first.is_done(name):
                return
            close = table.close(name, self.sources[name], self.errors[name])
            inputs = table.inputs(name, self.sources[name], self.errors[name])
            found = first_round(**inputs, close=close)
            arrays = {"depth": found.depth, "confidence": found.confidence}
            table.first.write(name, arrays, found.record)

        return make


@dataclass(frozen=True, kw_only=True)
class SecondRounds:
    """The final depth of a view, from photos and from what the first round found in neighbours."""

    brief: Brief
    cost: Cost
    sources: Mapping[str, tuple[str, ...]]
    """The neighbours each view is refined against, best first."""
    errors: Mapping[str, float]
    """How far off each view's scaled prior is taken to be, in log depth."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene and gets a renderer."""
        from refdepth.refine.rounds import second_round

        table = _Table(self.brief, desk)
        renderer = _renderer(self.brief.config)
        made_on = {"device": "cpu", "renderer": None}
        if renderer is not None:
            made_on = {"device": renderer.device.type, "renderer": renderer.name}

        def make(name: str) -> None:
            checkpoint = FileCheckpoint(
                self.brief.folder / CHECKPOINTS / f"{name}.npz", self.brief.item_fingerprint
            )
            if not table.second.is_done(name):
                found = second_round(
                    **table.inputs(name, self.sources[name], self.errors[name]),
                    first=table.first_depth(name),
                    source_depths=tuple(map(table.first_depth, self.sources[name])),
                    renderer=renderer,
                    checkpoint=checkpoint,
                    progress=lambda done, steps: desk.step(done / steps),
                )
                table.write_second(name, found, made_on)
            checkpoint.discard()

        return make


class _Table:
    """A scene as the rounds need it, view by view."""

    def __init__(self, brief: Brief, desk: Desk) -> None:
        from refdepth.refine.judges import Judges

        self.settings = brief.config.refine
        self.first = brief.items(FIRST)
        self.second = brief.items(SECOND)
        self._seed = brief.config.runtime.seed
        self._scaled = ItemStore(brief.workspace.stage_dir("scale"), "")
        self._scene = load_scene(brief.workspace)
        self._judges = Judges(self._scene, self.settings.judging_points)
        self._views = desk.keep(
            ("views", brief.root, brief.inputs.get("sfm"), *self.settings.grid.items()),
            lambda: WorkingViews(self._scene, max_bytes=desk.cache_bytes, **self.settings.grid),
        )

    def inputs(self, name: str, sources: tuple[str, ...], error: float) -> dict[str, Any]:
        """What both rounds are made from."""
        return {
            "ref": self._views[name],
            "sources": tuple(self._views[other] for other in sources),
            "scaled": self._scaled.arrays(name)["depth"],
            "sparse": self._judges.given(self._scene[name]),
            "settings": self.settings,
            "seed": self._seed,
            "prior_error": error,
        }

    def close(self, name: str, sources: tuple[str, ...], error: float) -> list[WorkingView]:
        """The closest other views, where the prior is `error` off and that is far."""
        wide = self.settings.wide
        if error <= wide.from_error:
            return []
        names = closest_views(self._scene, self._scene[name], wide.close_sources, sources)
        return [self._views[other] for other in names]

    def write_second(self, name: str, found: RefinedView, made_on: Mapping[str, Any]) -> None:
        """Stores the second round of a view, and what it says about the scene's confidence."""
        judges = self._judges.of(self._scene[name])
        arrays, record = second_item(found, self._views[name].grid, judges)
        self.second.write(name, arrays, {**record, **made_on})

    def first_depth(self, name: str) -> DepthMap:
        """What the first round found."""
        arrays = self.first.arrays(name)
        return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


def _prior_errors(workspace: Workspace, scene: Scene) -> dict[str, float]:
    """From how far the SfM points lie from the scale fits before these were bent."""
    from refdepth.refine.wide import ERROR_QUANTILE, prior_errors

    fits = ItemStore(workspace.stage_dir("scale"), "")

    def measured(name: str) -> float:
        quantiles = fits.record(name).get("left_out_before", {})
        return float(quantiles.get(f"{ERROR_QUANTILE:g}", np.nan))

    return prior_errors({name: measured(name) for name in scene.names})


def _cost(scene: Scene, config: RunConfig, seconds: float, *, gpu: bool = False) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    grid = WorkGrid.for_photo(camera, **config.refine.grid)
    pixels, cells = camera.width * camera.height, grid.shape[0] * grid.shape[1]
    return Cost(
        seconds=seconds * cells / 1e6,
        bytes=_PHOTO_BYTES * pixels + _GRID_BYTES * cells,
        cache_bytes=_CACHED_VIEWS * 10 * cells,
        gpu=gpu,
    )


def _on_gpu(config: RunConfig) -> bool:
    """Whether a GPU renders. A renderer that cannot be had is found out here, before hours of work,
    not after; where there is no choice nothing is loaded."""
    runtime = config.runtime
    no_choice = runtime.renderer != RendererName.NVDIFFRAST and runtime.device != DeviceName.CUDA
    if no_choice and not gpus():
        return False
    renderer = _renderer(config)
    return renderer is not None and renderer.device.type == "cuda"


def _renderer(config: RunConfig) -> Renderer | None:
    """The renderer for the gradient steps; None where none are asked for."""
    if not config.refine.gradient_steps:
        return None
    from refdepth.render import select_renderer

    return select_renderer(config.runtime.renderer, config.runtime.device)


def _outcome(
    work: _Plan,
    selected: tuple[str, ...],
    left: list[str],
    names: NameTable,
    calibration: Mapping[str, Any],
) -> StageOutcome:
    done = [name for name in selected if name not in left]
    records = {name: work.second.record(name) for name in done}
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
        files=[
            *work.final.paths([] if left else done),
            *work.second.paths(done),
            *work.first.paths(work.with_sources(selected)),
        ],
        summary={
            "views": len(done),
            "accepted_share": share,
            "kept_prior": kept,
            "flags": flags,
            "made_on": made_on,
            "calibration": calibration,
            "sources": {own(name): [own(other) for other in work.sources(name)] for name in done},
        },
        headline=headline,
        complete=not left,
        warnings=[f"{name}: {', '.join(flags[name])}" for name in sorted(flags)],
    )
