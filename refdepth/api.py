"""One call a step, over a whole scene in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdepth.types.depth_map import DepthMap
from refdepth.types.prior import DepthPrior
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.priors.fit import ScaleSettings
    from refdepth.refine.settings import RefineSettings
    from refdepth.render import Renderer

Progress = Callable[[str, int, int], None]
"""Hears (what is done, how many are done, of how many)."""


def scale_scene(
    scene: Scene,
    prior: DepthPrior,
    *,
    settings: ScaleSettings | None = None,
    progress: Progress | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The prior of every view, fitted to the SfM points: depth (H, W) in SfM units by view name, 0
    unknown, infinite in the sky (see `priors.sky`). Views with too few points borrow what the
    others found.

    Raises `StageError` when no view has enough points.

    Example::

        scaled = refdepth.scale_scene(scene, refdepth.SweepPrior())
    """
    from refdepth.priors.fit import apply_fit, check_fitted, fit_scene

    priors = {}
    for number, view in enumerate(scene.views):
        if progress is not None:
            progress("estimating depth", number, len(scene))
        priors[view.name] = prior.estimate(view, scene)
    fits = fit_scene(
        priors, {view.name: scene.sparse_depth(view) for view in scene.views}, settings
    )
    check_fitted(fits.values())
    return {
        name: apply_fit(priors[name], fit, scene[name].camera.shape, sky=np.inf)
        for name, fit in fits.items()
    }


def refine_scene(
    scene: Scene,
    scaled: Mapping[str, NDArray[np.float32]],
    *,
    settings: RefineSettings | None = None,
    views: Sequence[str] | None = None,
    prior_errors: Mapping[str, float] | None = None,
    normals: Mapping[str, NDArray[np.float32]] | None = None,
    renderer: Renderer | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, DepthMap]:
    """Refined depth and confidence of every view that has a `scaled` depth map (H, W; SfM units, 0
    unknown, infinite in the sky), or of `views` alone; both rounds, in memory. In the result the
    sky is unknown.

    `prior_errors` say how far off each view's scaled depth is (see `first_round`); by default the
    middling residual at the SfM points counts, which says too little of priors bent to them.
    `normals` (H, W, 3) of some views, in camera axes, towards the camera, 0 where unknown, are
    slants to try; the published method has a term for them.
    `settings` default to the preset `balanced`; `renderer`, which also says where all the rest is
    computed, to the best there is where there are gradient steps. A network that they name under
    `upsampler` adds detail to what is refined. Deterministic for a `seed` on one device.
    Raises `InputError` for a view without a scaled depth map, `ValueError` for a `renderer` that
    cannot take the steps of `settings`.

    Example::

        refined = refdepth.refine_scene(scene, scaled, settings=RefineSettings.preset("fast"))
        refined["IMG_1.jpg"].depth  # (H, W) float32
    """
    from refdepth.errors import InputError
    from refdepth.geometry.working_view import WorkingView
    from refdepth.io.images import load_photo
    from refdepth.matching.neighbours import closest_views, select_sources
    from refdepth.priors.checkpoints import find_checkpoint
    from refdepth.priors.prompted import PromptedNetwork
    from refdepth.refine.calibration import Calibration, Evidence
    from refdepth.refine.judges import Judges
    from refdepth.refine.rounds import check_renderer, first_round, second_round
    from refdepth.refine.settings import RefineSettings
    from refdepth.refine.wide import scene_errors
    from refdepth.render import computing_device, select_renderer

    settings = settings or RefineSettings()
    known = Scene([view for view in scene.views if view.name in scaled], scene.points)
    wanted = known.names if views is None else tuple(views)
    for name in wanted:
        if name not in known:
            raise InputError("has no scaled depth map.", subject=name, action="Scale it first.")
    sources = {view.name: select_sources(known, view, settings.sources) for view in known.views}
    needed = sorted({other for name in wanted for other in (name, *sources[name])})
    errors = prior_errors
    if errors is None:
        errors = scene_errors(known, {name: scaled[name] for name in known.names}, settings.grid)
    wide = settings.wide
    close: dict[str, tuple[str, ...]] = {
        name: closest_views(known, known[name], wide.close_sources, sources[name])
        for name in needed
        if errors[name] > wide.from_error
    }
    looked_at = {other for name in needed for other in (name, *sources[name], *close.get(name, ()))}
    photos = {
        name: WorkingView.loaded(partial(load_photo, known[name]), **settings.grid)
        for name in sorted(looked_at)
    }
    if settings.gradient_steps and renderer is None:
        renderer = select_renderer(gradients=settings.needs_gradients)
    check_renderer(settings, renderer)
    device = computing_device(renderer)

    upsampler = None
    if settings.upsamples:
        asked = settings.upsampler
        upsampler = PromptedNetwork(find_checkpoint(asked.model, asked.revision))
        upsampler.device = "cpu" if device is None else device.type
    judges = Judges(known, settings.judging_points)
    given = normals or {}

    def inputs(name: str) -> dict[str, object]:
        return {
            "ref": photos[name],
            "sources": [photos[other] for other in sources[name]],
            "scaled": scaled[name],
            "sparse": judges.given(known[name]),
            "settings": settings,
            "seed": seed,
            "prior_error": errors[name],
            "normals": photos[name].grid.sample(given[name]) if name in given else None,
        }

    first: dict[str, DepthMap] = {}
    for number, name in enumerate(needed):
        if progress is not None:
            progress("matching views", number, len(needed))
        near = [photos[other] for other in close.get(name, ())]
        first[name] = first_round(
            **inputs(name),  # type: ignore[arg-type]
            close=near,
            device=device,
        ).depth_map
    second = {}
    for number, name in enumerate(wanted):
        if progress is not None:
            progress("refining views", number, len(wanted))
        second[name] = second_round(
            **inputs(name),  # type: ignore[arg-type]
            first=first[name],
            source_depths=[first[other] for other in sources[name]],
            renderer=renderer,
            upsampler=upsampler,
            device=device,
        )
    curve = Calibration.of(
        Evidence.of(view.trust, photos[name].grid, view.depth, judges.of(known[name]))
        for name, view in sorted(second.items())
        if view.trust is not None
    )
    return {name: view.under(curve, photos[name].grid) for name, view in second.items()}
