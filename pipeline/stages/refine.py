"""Stage `refine`: every scaled depth map refined against its neighbours, in two rounds.

The first round works from photos alone; the second also uses the neighbours' first-round depth.
Then the scene's confidence is calibrated (see `calibration`). Each view of each round is one plain
task; what is finished is never done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.ingest import NameTable
from refdepth.pipeline.calibration import (
    SECOND,
    Calibrating,
    curve_of,
    is_made_under,
)
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.devices import aside, count_places
from refdepth.pipeline.engines import check_engine, gpu_share
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import MANIFEST_NAME
from refdepth.pipeline.refine_plan import RefinePlan
from refdepth.pipeline.refining import (
    CHECKPOINTS,
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
from refdepth.pipeline.workspace import Workspace


class RefineStage:
    """Scaled depth and photos in, refined depth and confidence out."""

    name = "refine"
    version = 16
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
        work = RefinePlan(context, scene)
        chosen = set(select_views(scene, context.views, names))
        if context.views:
            for name in chosen & set(selected):
                work.second.record_path(name).unlink(missing_ok=True)
        todo = [name for name in selected if name in chosen and not work.is_refined(name)]
        needed = work.with_sources(name for name in selected if name in chosen)
        missing = [name for name in needed if not work.first.is_done(name)]
        gpu = gpu_share(context.config) if todo or missing else 0.0
        cost = work.second_cost(gpu, todo)
        if todo:  # else no network is asked for
            cost = with_upsampler(cost, scene, context.request, context.inputs)
        context.perform(
            "matching views",
            FirstRounds(
                brief=context.brief,
                cost=work.first_cost(gpu),
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


def _outcome(
    work: RefinePlan,
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
