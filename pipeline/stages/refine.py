"""Stage `refine`: every scaled depth map refined against its neighbours, in two rounds.

The first round works from photos alone; the second also uses the neighbours' first-round depth.
Then the scene's confidence is calibrated (see `calibration`). Each view of each round is one plain
task; what is finished is never done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.ingest import NameTable
from refdepth.matching.neighbours import onlookers, select_sources
from refdepth.pipeline.calibration import (
    SECOND,
    Calibrating,
    curve_of,
    is_made_under,
    is_refined,
)
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.devices import aside, count_places
from refdepth.pipeline.engines import check_engine, gpu_share
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import MANIFEST_NAME
from refdepth.pipeline.refining import (
    CHECKPOINTS,
    FIRST,
    FirstRounds,
    SecondRounds,
)
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.upsampling import (
    REQUESTED,
    requested,
    upsampler_identity,
    with_upsampler,
)
from refdepth.pipeline.views import (
    load_scene,
    photo_names,
    select_names,
    select_views,
)
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.types.scene import Scene

_FIRST_SECONDS, _SECOND_SECONDS = 4.0, 8.0
"""Of a core, for a megapixel of the working grid; whether workers are worth starting."""
_PHOTO_BYTES, _GRID_BYTES = 40, 1200
"""Memory of a task for each pixel of a photo and of its working grid."""
_CLOSER_SECONDS, _CLOSER_BYTES = 8.0, 12
"""Of a core, for a megapixel of the finer grid, and memory for each of its pixels and each photo:
what a closer look adds."""
MOST_ONLOOKERS = 16
"""Views besides the neighbours that tell their depth, at most."""
_ONLOOKER_BYTES = 40
"""Memory that each takes for a pixel of the working grid."""
_CACHED_VIEWS = 24
"""Working views worth keeping between neighbouring views."""


class RefineStage:
    """Scaled depth and photos in, refined depth and confidence out."""

    name = "refine"
    version = 14
    upstream = ("sfm", "scale")

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The refinement settings and the seed."""
        return {**config.refine.result_fields(), "seed": config.runtime.seed}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """The network that adds detail, where one does. Before a run a device or renderer that
        cannot be had is refused."""
        if not looking:
            check_engine(request.config)
        return upsampler_identity(workspace, request, looking=looking)

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """Which views were asked for."""
        patterns = sorted(set(request.inputs.views))
        return {"views": patterns} if patterns else {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """Finished views of the scaled ones that are asked for."""
        items = ItemStore(workspace.stage_dir(self.name) / SECOND, fingerprint)
        fits = workspace.stage_dir("scale").glob("*.json")
        scaled = [path.stem for path in fits if path.name != MANIFEST_NAME]
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
        todo = [name for name in selected if name in chosen and not work.is_refined(name)]
        needed = work.with_sources(name for name in selected if name in chosen)
        missing = [name for name in needed if not work.first.is_done(name)]
        gpu = gpu_share(context.config) if todo or missing else 0.0
        cost = _with_closer(
            _cost(scene, context.config, _SECOND_SECONDS, gpu), scene, context.config
        )
        if todo:  # else no network is asked for
            cost = with_upsampler(cost, scene, context.request, context.inputs)
        context.perform(
            "matching views",
            FirstRounds(
                brief=context.brief,
                cost=_cost(scene, context.config, _FIRST_SECONDS, gpu),
                sources={name: work.sources(name) for name in missing},
                errors=work.errors,
            ),
            missing,
        )
        context.perform(
            "refining views",
            SecondRounds(
                brief=context.brief,
                cost=cost,
                sources={name: work.sources(name) for name in todo},
                onlookers={name: work.onlookers(name) for name in todo},
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
        outcome = _outcome(work, selected, left, names, calibration)
        network = requested(context.config)
        summary = outcome.summary if network is None else {**outcome.summary, REQUESTED: network}
        return replace(outcome, summary=summary)


class _Plan:
    """Which views need which, and where their results lie."""

    def __init__(self, context: StageContext, scene: Scene) -> None:
        self.scene = scene
        self.final = context.items()
        self.first = context.items(FIRST)
        self.second = context.items(SECOND)
        self.errors = _prior_errors(context.workspace, scene)
        """How far off each view's scaled prior is taken to be, in log depth."""
        self._settings = context.config.refine
        self._sources: dict[str, tuple[str, ...]] = {}
        self._onlookers: dict[str, tuple[str, ...]] = {}

    def sources(self, name: str) -> tuple[str, ...]:
        """The neighbours `name` is refined against, best first."""
        if name not in self._sources:
            self._sources[name] = select_sources(self.scene, self.scene[name], self._settings.sources)
        return self._sources[name]

    def onlookers(self, name: str) -> tuple[str, ...]:
        """The views beside those neighbours that only tell their depth; none beside the judge."""
        if name not in self._onlookers:
            from refdepth.refine.rounds import split_held_out

            sources = self.sources(name)
            used, judge = split_held_out(len(sources), self._settings)
            self._onlookers[name] = onlookers(
                self.scene,
                self.scene[name],
                [sources[i] for i in used],
                [] if judge is None else [sources[judge]],
                MOST_ONLOOKERS,
            )
        return self._onlookers[name]

    def with_sources(self, names: Iterable[str]) -> list[str]:
        """`names`, their neighbours and onlookers: the views whose first rounds they need."""
        needed = {name: (name, *self.sources(name), *self.onlookers(name)) for name in names}
        return sorted({other for others in needed.values() for other in others})

    def is_done(self, name: str) -> bool:
        """Whether both rounds of `name` are whole."""
        first = all(self.first.is_done(other) for other in self.with_sources([name]))
        return first and self.is_refined(name)

    def is_refined(self, name: str) -> bool:
        """Whether the second round of `name` is whole."""
        return is_refined(self.second, self.final, name)


def _prior_errors(workspace: Workspace, scene: Scene) -> dict[str, float]:
    """From how far the SfM points lie from the scale fits before these were bent."""
    from refdepth.refine.wide import ERROR_QUANTILE, prior_errors

    fits = ItemStore(workspace.stage_dir("scale"), "")

    def measured(name: str) -> float:
        quantiles = fits.record(name).get("left_out_before", {})
        return float(quantiles.get(f"{ERROR_QUANTILE:g}", np.nan))

    return prior_errors({name: measured(name) for name in scene.names})


def _cost(scene: Scene, config: RunConfig, seconds: float, gpu: float) -> Cost:
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


def _with_closer(cost: Cost, scene: Scene, config: RunConfig) -> Cost:
    """The same where such a view is looked at more closely."""
    camera, settings = scene.typical_camera, config.refine
    grid = WorkGrid.for_photo(camera, **settings.finer_grid)
    if grid.factor == WorkGrid.for_photo(camera, **settings.grid).factor:
        return cost
    cells = grid.shape[0] * grid.shape[1]
    return replace(
        cost,
        seconds=cost.seconds + _CLOSER_SECONDS * cells / 1e6,
        bytes=cost.bytes + _CLOSER_BYTES * (1 + settings.sources) * cells,
        cache_bytes=cost.cache_bytes + _CACHED_VIEWS * 5 * cells,
    )


def _outcome(
    work: _Plan,
    selected: tuple[str, ...],
    left: list[str],
    names: NameTable,
    calibration: Mapping[str, Any],
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
        files=[
            *work.final.paths(done),
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
