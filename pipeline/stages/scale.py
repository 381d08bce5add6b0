"""Stage `scale`: every prior fitted to the SfM points its view sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdepth.errors import StageError
from refdepth.ingest import NameTable
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.stages.depth import load_prior
from refdepth.pipeline.views import load_scene, photo_names
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.fit import ScaleFit, apply_fit, borrowed_fit, fit_scale


class ScaleStage:
    """Priors and SfM points in, one absolute depth map a view out."""

    name = "scale"
    version = 3
    upstream = ("sfm", "depth")

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The scale settings."""
        return config.scale.result_fields()

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
        """Fits take milliseconds: not worth a count."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Fits all views, then the weak ones with what the others found."""
        scene = load_scene(context.workspace)
        settings = context.config.scale
        priors = ItemStore(context.workspace.stage_dir("depth"), "")
        fits: dict[str, ScaleFit] = {}
        in_metres: set[str] = set()
        for number, name in enumerate(scene.names):
            context.cancellation.check()
            context.progress.step("fitting", number, len(scene))
            prior = load_prior(priors, name)
            sparse = scene.sparse_depth(scene[name])
            fits[name] = fit_scale(prior, sparse, settings, fallback=None)
            if prior.in_metres:
                in_metres.add(name)
        fallback = borrowed_fit(list(fits.values()))
        items = context.items()
        for number, name in enumerate(scene.names):
            context.cancellation.check()
            context.progress.step("scaling", number, len(scene))
            prior = load_prior(priors, name)
            if fits[name].weak and fallback is not None:
                sparse = scene.sparse_depth(scene[name])
                fits[name] = fit_scale(prior, sparse, settings, fallback=fallback)
            if not items.is_done(name):
                depth = apply_fit(prior, fits[name])
                items.write(name, {"depth": depth}, fits[name].to_dict())
        items.remove_others(scene.names)
        metric = [fit.a for name, fit in fits.items() if name in in_metres and not fit.weak]
        return self._outcome(items, fits, metric, photo_names(context.workspace))

    def _outcome(
        self,
        items: ItemStore,
        fits: Mapping[str, ScaleFit],
        units_per_metre: Sequence[float],
        names: NameTable,
    ) -> StageOutcome:
        if all(fit.weak for fit in fits.values()):
            raise StageError(
                "no view has enough SfM points to fit its depth to.",
                subject=self.name,
                action="Give more photos with more overlap and texture, or another depth model.",
            )
        residual = float(np.median([fit.median_residual for fit in fits.values() if not fit.weak]))
        flagged = {names.own(name): fit.flags for name, fit in fits.items() if fit.flags}
        summary: dict[str, Any] = {
            "median_residual": residual,
            "flagged": sorted(flagged),
            "views": len(fits),
        }
        if units_per_metre:
            summary["metres_per_unit"] = 1 / float(np.median(units_per_metre))
        return StageOutcome(
            files=items.paths(fits),
            summary=summary,
            headline=f"{len(fits)} views fitted, median residual {100 * residual:.1f} %"
            + (f", {len(flagged)} flagged" if flagged else ""),
            warnings=[f"{name}: {', '.join(flagged[name])}" for name in sorted(flagged)],
        )
