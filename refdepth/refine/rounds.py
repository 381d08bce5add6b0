"""The two rounds of a view's refinement, each a plain function of its inputs.

The first looks at photos alone; the second also at what the first found in the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import fetch_all, is_tensor, namespace, put
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.acceptance import judged, summary, taken_over_in_part
from refdepth.refine.agreement import agree
from refdepth.refine.calibration import Calibration, Evidence
from refdepth.refine.closer import look_closer
from refdepth.refine.confidence import Trust, view_trust
from refdepth.refine.edges import sharpen_view
from refdepth.refine.problem import ViewProblem
from refdepth.refine.refined_view import Clock, RefinedView
from refdepth.refine.settings import Method, RefineSettings
from refdepth.refine.sky import left_out, place_sky
from refdepth.refine.slant import search
from refdepth.refine.transfer import transfer
from refdepth.refine.upsample import Upsampler, take_detail
from refdepth.refine.wide import bend_to_photos, measured_error, moved
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import SparseDepth

if TYPE_CHECKING:
    import torch

    from refdepth.refine.mesh.schedule import Checkpoint
    from refdepth.render import Renderer

Map = NDArray[np.float32]


def split_held_out(n_sources: int, settings: RefineSettings) -> tuple[list[int], int | None]:
    """Indices of the sources (best first) that are used, and of the one left out as judge: one of
    middling quality, so that the best still help and the judge still sees the same surfaces."""
    used = list(range(n_sources))
    if not settings.held_out or n_sources < 2:
        return used, None
    judge = n_sources // 2
    used.remove(judge)
    return used, judge


def first_round(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    scaled: Map,
    sparse: SparseDepth,
    close: Sequence[WorkingView] = (),
    settings: RefineSettings | None = None,
    seed: int = 0,
    prior_error: float | None = None,
    normals: Map | None = None,
    device: torch.device | None = None,
) -> RefinedView:
    """Searches around the `scaled` depth (H, W; 0 unknown, infinite in the sky; photo's grid) and
    spreads what is sure. The sky lies behind everything in the result (see `sky`).

    `prior_error` is how far off the prior is, as log depth within which it lies for three quarters
    of the SfM points before it is bent to them; without it, the residuals at `sparse` count. A
    prior that is too far off for the search is bent first to what all photos say: the judge's, as
    in a prior that is a sweep, and those of `close`, the closest views that are no sources.

    `normals` (h, w, 3) on the working grid, in camera axes, towards the camera, 0 where unknown,
    are slants to try (see `slant`).

    `sources` are the neighbours, best first. Without any, the scaled depth is returned, flagged
    and without confidence. The confidence is that of the photometric match, for use by the
    neighbours. What a search finds is no finer than the working grid, so that is where the result
    lies; `record["factor"]` is that grid's. Deterministic for a `seed`.

    With a `device` it is computed there in tensor operations, else by compiled loops on the CPU:
    the results agree to rounding in nearly all pixels.
    """
    settings = settings or RefineSettings()
    clock = Clock()
    scaled, sky = place_sky(scaled, sparse, settings)
    used, judge = split_held_out(len(sources), settings)
    record = {**_record(scaled, used, judge), "factor": ref.grid.factor}
    unsure = np.zeros(ref.grid.shape, np.float32)
    if record["flags"]:
        return RefinedView(depth=ref.grid.shrink_depth(scaled), confidence=unsure, record=record)
    if settings.method is Method.PAPER:
        from refdepth.refine.paper.coarse import coarse_refine

        bent = coarse_refine(scaled, sparse, settings.paper.coarse, seed)
        clock.lap("coarse")
        record["seconds"] = clock.seconds
        return RefinedView(depth=ref.grid.shrink_depth(bent), confidence=unsure, record=record)
    ref = ref.on(device)
    helpers = [sources[i].on(device) for i in used]
    problem = ViewProblem(ref, helpers, sparse, settings)
    base = ref.grid.shrink_depth(put(scaled, device))
    error = measured_error(base, sparse, ref.grid) if prior_error is None else prior_error
    record["prior_error"] = round(error, 4)
    hypotheses = settings.search
    if error > settings.wide.from_error:
        every = [view.on(device) for view in (*sources, *close)]
        bent = bend_to_photos(ref, every, base, sparse, settings.wide)
        base = sky.kept(base, bent)
        hypotheses = settings.wide.search
        clock.lap("sweep")
    slants = None if normals is None else put(normals, device)
    change, sure = search(problem, base, hypotheses, normals=slants)
    clock.lap("search")
    change = problem.spread(base, (change[None], sure[None]), problem.points(base))
    depth, confidence = fetch_all(
        base * namespace(base).exp(change), namespace(base).where(base > 0, sure, 0.0)
    )
    clock.lap("propagation")
    record["seconds"] = clock.seconds
    return RefinedView(depth=depth, confidence=confidence, record=record)


def second_round(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    scaled: Map,
    sparse: SparseDepth,
    first: DepthMap,
    source_depths: Sequence[DepthMap],
    onlookers: Sequence[WorkingView] = (),
    onlooker_depths: Sequence[DepthMap] = (),
    settings: RefineSettings | None = None,
    renderer: Renderer | None = None,
    upsampler: Upsampler | None = None,
    seed: int = 0,
    prior_error: float | None = None,
    normals: Map | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | None = None,
) -> RefinedView:
    """Joins a view's first round with its neighbours', searches again around what they agree on,
    then renders, refines and sharpens depth edges. The result lies in the photo's grid; the sky is
    unknown in it, and how much that is stands in the record.

    `first` is the view's own first round, `source_depths` its neighbours', in the order of
    `sources`, each on its working grid and looked at only when it is needed. `onlookers` are views
    that the photo is not compared with: only their first rounds, `onlooker_depths`, have a say. The
    more do, the better become plain surfaces, where each has only its prior. `prior_error` and
    `normals` are as in `first_round`.
    The confidence is a guess from this view alone: a scene's is made from the `trust` of all (see
    `calibration`). The
    gradient steps need a `renderer`; `checkpoint` and `progress` belong to them. An `upsampler`
    adds detail to depth that was searched for (see `upsample`). Where the
    neighbour left out does not see an improvement, `scaled` stays, or what the first round made of
    a prior far off. Deterministic for a `seed`, interrupted or not. `device` is as in
    `first_round`. Raises `ValueError` when gradient steps are asked for without a renderer
    that can take them.
    """
    settings = settings or RefineSettings()
    check_renderer(settings, renderer)
    clock = Clock()
    told = scaled > 0
    scaled, sky = place_sky(scaled, sparse, settings)
    used, judge = split_held_out(len(sources), settings)
    record = _record(scaled, used, judge)
    if record["flags"]:
        depth = sky.removed(scaled)
        record.update(left_out(told, depth, ref.photo_mask()))
        return RefinedView(
            depth=depth,
            confidence=np.zeros_like(scaled),
            record=record,
            trust=Trust.none(ref.grid.shape),
        )
    helpers = [sources[i] for i in used]
    steps: dict[str, Any] = {"renderer": renderer, "checkpoint": checkpoint, "progress": progress}
    if settings.method is Method.PAPER:
        from refdepth.refine.paper.refine import refine_paper

        found = refine_paper(
            ref,
            helpers,
            scaled=scaled,
            sparse=sparse,
            settings=settings.paper,
            iterations=settings.paper.iterations,
            seed=seed,
            normals=None if normals is None else ref.grid.repeat(normals),
            **steps,
        )
        record["fine"] = found.record
        clock.lap("fine")
    view, near = ref.on(device), [source.on(device) for source in helpers]
    scaled = put(scaled, device)
    problem = ViewProblem(view, near, sparse, settings)
    transferred = transfer(view, near, (source_depths[i] for i in used))
    start = scaled
    if settings.method is Method.PAPER:
        depth = put(found.depth, device)
    else:
        base = ref.grid.shrink_depth(scaled)
        own = put(first.depth, device), put(first.confidence, device)
        error = measured_error(base, sparse, ref.grid) if prior_error is None else prior_error
        if error > settings.wide.from_error:
            start = moved(scaled, base, own[0], ref.grid)
        slants = None if normals is None else put(normals, device)
        heard = transferred
        if onlookers:
            others = [other.on(device) for other in onlookers]
            heard = heard.and_of(transfer(view, others, onlooker_depths))
        depth = agree(problem, start, own, heard, settings, slants)
        del heard
        clock.lap("agreement")
        if settings.iterations:
            from refdepth.refine.mesh.refine import refine_surface

            found = refine_surface(
                ref,
                helpers,
                depth=depth,
                sparse=sparse,
                settings=settings.surface,
                iterations=settings.iterations,
                **steps,
            )
            depth, record["fine"] = found.depth, found.record
            del found  # maps of a large photo are large
            clock.lap("fine")
        if settings.closer.max_pixels:
            depth = look_closer(view, near, depth, settings)
            clock.lap("closer")
        if upsampler is not None:
            detailed, share = take_detail(
                view, near, depth, upsampler, settings, farthest=sky.farthest
            )
            depth, record["detail_share"] = sky.kept(depth, detailed), round(share, 4)
            clock.lap("detail")
    photo = ref.photo() if settings.edge_reach else None
    mask = ref.photo_mask() if photo is None else photo.mask
    sharp = sharpen_view(depth, photo, settings.edge_reach)
    clock.lap("edges")
    verdict = None
    if judge is not None:
        judging = sources[judge].on(device)
        before, verdict = judged(problem, judging, source_depths[judge], scaled, start, sharp)
        if is_tensor(sharp):  # nobody waits for a device to answer whether all is taken over
            mixed = taken_over_in_part(
                before, depth, verdict.share, ref.grid, photo, settings.edge_reach
            )
            sharp = namespace(sharp).where(verdict.in_full, sharp, mixed)
        elif not verdict.in_full:
            del sharp
            sharp = taken_over_in_part(
                before, depth, verdict.share, ref.grid, photo, settings.edge_reach
            )
        del before
        clock.lap("acceptance")
    sharp = sky.removed(sharp)
    trust = view_trust(problem.comparison, ref.grid.shrink_depth(sharp), transferred, settings)
    said = () if verdict is None else verdict.numbers
    sharp, order, chance, *numbers = fetch_all(sharp, trust.order, trust.chance, *said)
    trust = Trust(order=order, chance=chance)
    if numbers:
        record.update(summary(*map(float, numbers)))
    del problem, transferred, depth, start, photo
    alone = Calibration.of([Evidence.of(trust, ref.grid, sharp, None)])
    sure = alone.grown(trust.order, ref.grid)
    sure *= sharp > 0 if mask is None else mask & (sharp > 0)
    clock.lap("confidence")
    record["seconds"] = clock.seconds
    record.update(left_out(told, sharp, mask))
    return RefinedView(depth=sharp, confidence=sure, record=record, trust=trust)


def check_renderer(settings: RefineSettings, renderer: Renderer | None) -> None:
    """Raises `ValueError` where gradient steps are asked for that `renderer` cannot take."""
    if settings.gradient_steps and renderer is None:
        raise ValueError("gradient steps need a renderer")
    if settings.needs_gradients and renderer is not None and not renderer.differentiable:
        raise ValueError(f"the published method needs gradients: {renderer.name} gives none")


def _record(scaled: Map, used: list[int], judge: int | None) -> dict[str, Any]:
    """The record of a round that has not begun; flagged where it cannot."""
    flags = []
    if not used:
        flags.append("no_sources")
    if not (scaled > 0).any():
        flags.append("no_prior")
    kept = {"accepted_share": 0.0, "kept_prior": True} if flags else {}
    return {"sources": len(used), "held_out": judge, "flags": flags, **kept}
