"""Stage `scale`: every prior fitted to the SfM points its view sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.ingest import NameTable
from refdepth.matching.neighbours import rows_at_place
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import Brief, StageContext, StageOutcome
from refdepth.pipeline.stages.depth import load_prior
from refdepth.pipeline.views import load_scene, photo_names
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.beside import with_points_beside
from refdepth.priors.borrowing import borrowed_fit
from refdepth.priors.fit import apply_fit, check_fitted, fit_scale
from refdepth.priors.scale_fit import ScaleFit
from refdepth.types.prior import Prior
from refdepth.types.scene import Scene, View

_SECONDS, _BYTES = 0.05, 60e6
"""Of a core, and memory, for a megapixel."""
_FIT_SECONDS = 0.1
"""Of a core for the points of a view."""
_CHARTED = 100
"""Points of a fit that are kept for its chart."""


class ScaleStage:
    """Priors and SfM points in, out one fit a view that makes its prior absolute depth."""

    name = "scale"
    version = 7
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
        """Fits take a tenth of a second: not worth a count."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Fits all views, then the weak ones with what the others found."""
        scene = load_scene(context.workspace)
        cost = _cost(scene)
        found = context.perform("fitting", Fits(brief=context.brief, cost=cost), scene.names)
        fits = {name: found[name][0] for name in scene.names}
        in_metres = {name for name in scene.names if found[name][1]}
        items = context.items(bare=True)
        weak = [name for name in scene.names if fits[name].weak]
        final = FinalFits(
            brief=context.brief, cost=cost, fits=fits, fallback=borrowed_fit(list(fits.values()))
        )
        todo = [name for name in weak if not items.is_done(name)]
        stored = context.perform("scaling", final, todo)
        done = {name: _slim(ScaleFit.from_dict(items.record(name))) for name in {*weak} - {*todo}}
        fits = {**fits, **stored, **done}
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
        check_fitted(fits.values(), self.name)
        carried = [fit for fit in fits.values() if not fit.weak]
        carried = carried or [fit for fit in fits.values() if not fit.too_few]
        residual = float(np.median([fit.median_residual for fit in carried]))
        flagged = {names.own(name): fit.flags for name, fit in fits.items() if fit.flags}
        summary: dict[str, Any] = {
            "median_residual": residual,
            "flagged": sorted(flagged),
            "views": len(fits),
            "bent": sum(fit.bend is not None for fit in fits.values()),
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


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The fit of a view's prior to its own points is stored where it is not weak. What is handed
    back is the fit, without samples, and whether the prior is in metres."""

    brief: Brief
    cost: Cost

    def open(self, desk: Desk) -> Callable[[str], tuple[ScaleFit, bool]]:
        """Loads the scene."""
        table = _Table(self.brief)
        items = self.brief.items(bare=True)

        def fit(name: str) -> tuple[ScaleFit, bool]:
            prior = load_prior(table.priors, name)
            found = table.fit(name, prior, None)
            if not found.weak and not items.is_done(name):
                items.write(name, {}, _record(found))
            return _slim(found), prior.in_metres

        return fit


@dataclass(frozen=True, kw_only=True)
class FinalFits:
    """A weak fit of a view is made again with what the others found, their scale and, where it has
    next to no points, depth beside it from the same place; and stored."""

    brief: Brief
    cost: Cost
    fits: Mapping[str, ScaleFit]
    """Of all views, without samples."""
    fallback: ScaleFit | None

    def open(self, desk: Desk) -> Callable[[str], ScaleFit]:
        """Loads the scene."""
        table = _Table(self.brief)
        items = self.brief.items(bare=True)

        def make(name: str) -> ScaleFit:
            few = self.fits[name].points < self.brief.config.scale.min_points
            others = self.fits if few and self.fallback is not None else {}
            fit = table.fit(name, load_prior(table.priors, name), self.fallback, others)
            items.write(name, {}, _record(fit))
            return _slim(fit)

        return make


def load_scaled(workspace: Workspace, view: View, *, sky: float = 0.0) -> NDArray[np.float32]:
    """A view's prior under its stored fit: depth (H, W) in SfM units, 0 where unknown, `sky` where
    it is that. This takes milliseconds, so it is not stored."""
    name = view.name
    fit = ScaleFit.from_dict(ItemStore(workspace.stage_dir(ScaleStage.name), "").record(name))
    prior = load_prior(ItemStore(workspace.stage_dir("depth"), ""), name)
    return apply_fit(prior, fit, view.camera.shape, sky=sky)


class _Table:
    """A scene and its priors as fits need them."""

    def __init__(self, brief: Brief) -> None:
        self.priors = ItemStore(brief.workspace.stage_dir("depth"), "")
        self._settings = brief.config.scale
        self._scene = load_scene(brief.workspace)

    def fit(
        self,
        name: str,
        prior: Prior,
        fallback: ScaleFit | None,
        others: Mapping[str, ScaleFit] = MappingProxyType({}),
    ) -> ScaleFit:
        """The fit of a view's prior to the points that it sees, and to the depth of those of the
        `others` that were taken from the same place and whose own fits are good at three quarters
        of their points, and not flat: those are right on the one surface that has points."""
        scene, view = self._scene, self._scene[name]
        beside = [
            other
            for other in (scene.views[row].name for row in rows_at_place(scene, view))
            if other != name
            and other in others
            and not others[other].flags
            and not others[other].flat
            and others[other].residual_quantiles["0.75"] <= self._settings.poor_fit
        ]

        def depth_of(other: str) -> NDArray[np.float32]:
            shape = scene[other].camera.shape
            return apply_fit(load_prior(self.priors, other), others[other], shape)

        sparse = with_points_beside(scene, view, beside, depth_of)
        return fit_scale(prior, sparse, self._settings, fallback=fallback)


def _record(fit: ScaleFit) -> dict[str, Any]:
    """Plain JSON values, of the samples as many and as many digits as a chart can show: most of
    what a fit takes on disk."""
    count = len(fit.samples)
    rows = np.linspace(0, count - 1, min(count, _CHARTED)).astype(int)
    shown = [(_digits(x), _digits(z), inlier) for x, z, inlier in (fit.samples[i] for i in rows)]
    return replace(fit, samples=shown).to_dict()


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def _slim(fit: ScaleFit) -> ScaleFit:
    """Without what only its record has to say: of thousands of views that fills memory."""
    return replace(fit, samples=(), left_out_before={}, left_out_quantiles={})


def _cost(scene: Scene) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    megapixels = camera.width * camera.height / 1e6
    return Cost(seconds=_FIT_SECONDS + _SECONDS * megapixels, bytes=int(_BYTES * megapixels))
