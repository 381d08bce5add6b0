"""Gauss-Newton refinement: the meshed depth map is rendered into neighbouring photos and moved
until it fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.appearance import build_level
from refdepth.refine.mesh.gauss_newton import GaussNewton, PointTargets
from refdepth.refine.mesh.result import SurfaceResult, check_depth, moved, summary, unchanged
from refdepth.refine.mesh.schedule import Checkpoint, Steps, split_evenly
from refdepth.refine.mesh.settings import SurfaceSettings
from refdepth.refine.mesh.surface import (
    anchor_on_depth,
    mesh_depth,
    reduction_of,
    spread_to_pixels,
    surface_of,
)
from refdepth.render import Renderer
from refdepth.types.scene import SparseDepth

Map = NDArray[np.float32]
SAVE_EVERY = 2
"""Steps between saved states: each takes up to seconds, a state milliseconds."""


@one_torch_thread()
def refine_surface(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    depth: Map,
    sparse: SparseDepth,
    settings: SurfaceSettings,
    iterations: int,
    renderer: Renderer,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SurfaceResult:
    """Refines `depth` (H, W; 0 unknown; photo's grid) of `ref` against `sources` in `iterations`
    steps, spread over the levels of `settings.scales`.

    Full detail stays: the result is `depth` times the mesh's smooth correction. Deterministic; with
    a `checkpoint` an interrupted call goes on from where it was saved, to the same bits. `progress`
    is called with the steps done and the steps in all. Raises `ValueError` when `depth` has another
    size than its photo.
    """
    check_depth(ref, depth=depth)
    began = time.perf_counter()
    if not iterations or not sources:
        return unchanged(depth, "no_sources" if iterations else "no_iterations")
    mask = ref.photo_mask()
    reduction = reduction_of(ref, settings)
    mesh = mesh_depth(depth, mask, stride=settings.stride * reduction, cut_ratio=settings.cut_ratio)
    if not len(mesh.triangles):
        return unchanged(depth, "no_surface")
    scales = [scale * reduction for scale in settings.scales]
    steps = Steps(
        split_evenly(iterations, len(scales)),
        save_every=SAVE_EVERY,
        checkpoint=checkpoint,
        progress=progress,
    )
    anchors, start, measured = anchor_on_depth(surface_of(mesh), depth, sparse, renderer)
    points = PointTargets(
        anchors=anchors, change=np.log(measured / start), error_px=sparse.error_px[anchors.row]
    )
    solver = GaussNewton(mesh, points, settings, renderer)
    state = steps.resume()
    correction = np.zeros(len(mesh.depth)) if state is None else state["correction"]
    for index, scale in enumerate(scales):
        level = build_level(
            ref,
            sources,
            scale,
            appearance=settings.appearance,
            window_px=settings.window_px,
            device=renderer.device,
        )
        for _ in steps.remaining(index):
            correction, energy = solver.step(level, correction)
            steps.finish(energy, partial(dict, correction=correction))
    change = spread_to_pixels(mesh, correction.astype(np.float32), depth)
    record = summary(
        "gauss_newton", renderer, sources, len(mesh.triangles), steps.summary(scales), began
    )
    return SurfaceResult(depth=moved(depth, change, mask), record=record)
