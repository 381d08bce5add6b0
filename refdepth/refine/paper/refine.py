"""The published method (arXiv 2410.03861): a coarse network bends the scaled prior towards the SfM
points, then Adam moves the rendered mesh."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.appearance import build_level
from refdepth.refine.mesh.result import SurfaceResult, check_depth, moved, summary, unchanged
from refdepth.refine.mesh.schedule import Checkpoint, Steps, split_evenly
from refdepth.refine.mesh.surface import (
    anchor_on_depth,
    decimate,
    mesh_depth,
    reduction_of,
    rendered_change,
    spread_to_pixels,
    surface_of,
)
from refdepth.refine.paper.adam import AdamSolver, ReferenceTerms
from refdepth.refine.paper.coarse import coarse_refine
from refdepth.refine.paper.losses import edge_band
from refdepth.refine.paper.settings import PaperSettings
from refdepth.render import Renderer
from refdepth.types.scene import SparseDepth

Map = NDArray[np.float32]
SAVE_EVERY = 200
"""Steps between saved states."""


@one_torch_thread()
def refine_paper(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    scaled: Map,
    sparse: SparseDepth,
    settings: PaperSettings,
    iterations: int,
    renderer: Renderer,
    seed: int = 0,
    normals: Map | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SurfaceResult:
    """Both stages on the `scaled` prior (H, W; 0 unknown; photo's grid); see `refine_descent`."""
    check_depth(ref, scaled=scaled)
    return refine_descent(
        ref,
        sources,
        depth=coarse_refine(scaled, sparse, settings.coarse, seed),
        shape_prior=scaled,
        sparse=sparse,
        settings=settings,
        iterations=iterations,
        renderer=renderer,
        seed=seed,
        normals=normals,
        checkpoint=checkpoint,
        progress=progress,
    )


@one_torch_thread()
def refine_descent(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    depth: Map,
    shape_prior: Map,
    sparse: SparseDepth,
    settings: PaperSettings,
    iterations: int,
    renderer: Renderer,
    seed: int = 0,
    normals: Map | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SurfaceResult:
    """The fine stage: Adam on the mesh of `depth` (H, W), whose gradients and edges should stay
    those of `shape_prior`.

    `normals` (H, W, 3) in camera axes, towards the camera, 0 where unknown, feed the normal term;
    without them it does not act. Deterministic for a `seed`; with a `checkpoint` an interrupted
    call goes on from where it was saved, to the same bits. Raises `ValueError` when a map has
    another size than its photo.
    """
    check_depth(ref, depth=depth, shape_prior=shape_prior)
    began = time.perf_counter()
    if not iterations or not sources:
        return unchanged(depth, "no_sources" if iterations else "no_iterations")
    mask = ref.photo_mask()
    reduction = reduction_of(ref, settings)
    stride = settings.stride * reduction
    mesh = mesh_depth(depth, mask, stride=stride, cut_ratio=settings.cut_ratio)
    if not len(mesh.triangles):
        return unchanged(depth, "no_surface")
    scales = [scale * reduction for scale in settings.scales]
    levels = [
        build_level(
            ref,
            sources,
            scale,
            appearance=settings.appearance,
            window_px=settings.window_px,
            ref_usable=_away_from_edges(depth, settings),
            device=renderer.device,
        )
        for scale in scales
    ]
    surface = surface_of(mesh)
    if settings.decimation < 1:
        surface = decimate(surface, ref.grid.photo, settings.decimation)
    anchors, start, measured = anchor_on_depth(surface, depth, sparse, renderer)
    solver = AdamSolver(
        surface,
        ReferenceTerms(
            camera=ref.grid.photo,
            depth=depth,
            shape_prior=shape_prior,
            normals=normals,
            anchors=anchors,
            point_start=start,
            point_depth=measured,
        ),
        sources=len(sources),
        channels=levels[0].images.shape[-1],
        stride_px=stride,
        settings=settings,
        renderer=renderer,
        seed=seed,
    )
    steps = Steps(
        split_evenly(iterations, len(scales)),
        save_every=SAVE_EVERY,
        checkpoint=checkpoint,
        progress=progress,
    )
    solver.run(levels, steps)
    if settings.decimation == 1 and not settings.lateral:
        factor = solver.parameters["factor"].detach().cpu().numpy()
        change = spread_to_pixels(mesh, factor, depth)
    else:
        change = rendered_change(
            solver.reference_depth(moved=False), solver.reference_depth(moved=True), depth
        )
    record = summary(
        "adam", renderer, sources, len(surface.triangles), steps.summary(scales), began
    )
    return SurfaceResult(depth=moved(depth, change, mask), record=record)


def _away_from_edges(depth: Map, settings: PaperSettings) -> NDArray[np.bool_] | None:
    """Reference pixels outside the band along depth edges, where that is asked for."""
    if not settings.edge_band_px:
        return None
    maps = torch.from_numpy(depth)[None]
    return ~edge_band(maps, ratio=settings.cut_ratio, radius=settings.edge_band_px)[0].numpy()
