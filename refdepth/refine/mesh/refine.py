"""Gauss-Newton refinement: the meshed depth map is rendered into neighbouring photos and moved
until it fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import SupportsFloat

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, brought, fetch, is_tensor, namespace, put_like
from refdepth.cores import one_torch_thread
from refdepth.geometry.mesh import GridMesh
from refdepth.geometry.working_view import WorkingView
from refdepth.precision import widest_float
from refdepth.refine.mesh import torch_mesh
from refdepth.refine.mesh.appearance import Level, build_level
from refdepth.refine.mesh.gauss_newton import GaussNewton, PointTargets
from refdepth.refine.mesh.result import SurfaceResult, check_depth, moved, summary, unchanged
from refdepth.refine.mesh.schedule import Checkpoint, Steps, VoidSteps, split_evenly
from refdepth.refine.mesh.settings import SurfaceSettings
from refdepth.refine.mesh.surface import (
    anchor_on_depth,
    mesh_depth,
    reduction_of,
    spread_to_pixels,
    surface_of,
)
from refdepth.refine.mesh.torch_mesh import TensorMesh
from refdepth.render import Renderer, computing_device
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.types.scene import SparseDepth

SAVE_EVERY = 2
"""Steps between saved states: each takes up to seconds, a state milliseconds."""


@one_torch_thread()
def refine_surface(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    *,
    depth: Array,
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

    With the CPU renderer in compiled loops, whatever `depth` is; with any other in tensor
    operations on its device. The result is as `depth` is.
    """
    check_depth(ref, depth=depth)
    began = time.perf_counter()
    if not iterations or not sources:
        return unchanged(depth, "no_sources" if iterations else "no_iterations")
    device = computing_device(renderer)
    start, mask = brought(depth, device), ref.photo_mask()
    reduction = reduction_of(ref, settings)
    mesh, points = _meshed(start, mask, sparse, settings, reduction, renderer)
    if not len(mesh.triangles):
        return unchanged(depth, "no_surface")
    scales = [scale * reduction for scale in settings.scales]
    levels = [
        partial(
            build_level,
            ref.on(device),
            [source.on(device) for source in sources],
            scale,
            appearance=settings.appearance,
            window_px=settings.window_px,
            device=renderer.device,
        )
        for scale in scales
    ]
    count = mesh.triangle_count if isinstance(mesh, TensorMesh) else len(mesh.triangles)

    def taken(drawing: Renderer, void: SupportsFloat = 0.0) -> tuple[Steps, Array, float]:
        steps = Steps(
            split_evenly(iterations, len(scales)),
            save_every=SAVE_EVERY,
            checkpoint=checkpoint,
            progress=progress,
            void=void,
        )
        correction = _solved(GaussNewton(mesh, points, settings, drawing), steps, levels)
        return steps, correction, *steps.fetch(count)

    try:
        found = taken(*_for_steps(renderer))
    except VoidSteps:
        found = None
    steps, correction, triangles = found or taken(renderer)
    if not triangles:
        return unchanged(depth, "no_surface")
    change: Array
    if isinstance(mesh, TensorMesh):
        change = torch_mesh.spread_to_pixels(mesh, correction, start)
    else:
        change = spread_to_pixels(mesh, correction.astype(np.float32), start)
    record = summary(
        "gauss_newton", renderer, sources, int(triangles), steps.summary(scales), began
    )
    result = brought(moved(start, change, mask), depth.device if is_tensor(depth) else None)
    return SurfaceResult(depth=result, record=record)


def _meshed(
    depth: Array,
    mask: NDArray[np.bool_] | None,
    sparse: SparseDepth,
    settings: SurfaceSettings,
    reduction: int,
    renderer: Renderer,
) -> tuple[GridMesh | TensorMesh, PointTargets]:
    """The mesh of a depth map, and the SfM points on it."""
    stride, cut_ratio = settings.stride * reduction, settings.cut_ratio
    if not is_tensor(depth):
        mesh = mesh_depth(depth, mask, stride=stride, cut_ratio=cut_ratio)
        anchors, start, measured = anchor_on_depth(surface_of(mesh), depth, sparse, renderer)
        return mesh, PointTargets(
            index=anchors.index,
            weight=anchors.weight,
            change=np.log(measured / start),
            error_px=sparse.error_px[anchors.row],
        )
    seen = depth if mask is None else namespace(depth).where(put_like(mask, depth), depth, 0.0)
    on = torch_mesh.grid_mesh(seen, stride, cut_ratio)
    wide = widest_float(depth.device)
    xy, measured, error_px = (
        put_like(part, depth).to(wide) for part in (sparse.xy, sparse.depth, sparse.error_px)
    )
    index, weight, change = torch_mesh.anchor_on_depth(on, depth, xy, measured)
    return on, PointTargets(index=index, weight=weight, change=change, error_px=error_px)


def _for_steps(renderer: Renderer) -> tuple[Renderer, SupportsFloat]:
    """What draws the steps without each waiting for the device, and a number that is not 0 where
    that came to nothing."""
    return renderer.for_steps() if isinstance(renderer, TorchRenderer) else (renderer, 0.0)


def _solved(solver: GaussNewton, steps: Steps, levels: Sequence[Callable[[], Level]]) -> Array:
    """The correction (V,) after what remains of the `steps`."""
    state = steps.resume()
    correction = solver.unmoved
    if state is not None:
        correction = put_like(state["correction"], correction)
    for index, build in enumerate(levels):
        level = build()
        for _ in steps.remaining(index):
            correction, energy = solver.step(level, correction)
            steps.finish(energy, partial(_state, correction))
    return correction


def _state(correction: Array) -> dict[str, NDArray]:
    return {"correction": fetch(correction)}
