"""Fine refinement: the meshed depth map is rendered into neighbouring photos and moved until it
fits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.geometry.mesh import GridMesh
from refdepth.refine.mesh.appearance import Level, build_level
from refdepth.refine.mesh.gauss_newton import GaussNewton, PointTargets
from refdepth.refine.mesh.schedule import Checkpoint, Steps, split_evenly
from refdepth.refine.mesh.settings import FineSettings, Solver
from refdepth.refine.mesh.surface import (
    PointAnchors,
    Surface,
    anchor_points,
    decimate,
    mesh_depth,
    rendered_change,
    spread_to_pixels,
    surface_of,
)
from refdepth.refine.paper.adam import AdamSolver, ReferenceTerms
from refdepth.refine.paper.losses import edge_band
from refdepth.render import Renderer
from refdepth.types.scene import PosedImage, SparseDepth

__all__ = ["Checkpoint", "FineResult", "FineSettings", "fine_refine"]

logger = logging.getLogger(__name__)

Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class FineResult:
    """What the fine stage leaves."""

    depth: Map
    """Refined depth (H, W); as given where nothing is known or the mask says no."""
    record: dict[str, Any]
    """Steps, losses, mesh size, seconds, flags; JSON-able."""


def fine_refine(
    ref: PosedImage,
    sources: Sequence[PosedImage],
    *,
    depth: Map,
    shape_prior: Map,
    sparse: SparseDepth,
    settings: FineSettings,
    renderer: Renderer,
    visibility: Sequence[Map | None] | None = None,
    normals: Map | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FineResult:
    """Refines `depth` (H, W; 0 unknown) of `ref` against `sources`.

    `shape_prior` (H, W) is the scaled prior, whose gradients and edges the paper's terms keep.
    `visibility` may hold for each source how much each of its pixels counts (Hs, Ws) in [0, 1];
    `normals` (H, W, 3) in camera axes, towards the camera, 0 where unknown, feed the normal term.
    Full detail stays: the result is `depth` times the mesh's smooth correction.

    Deterministic for a `seed`; with a `checkpoint` an interrupted call goes on from where it was
    saved, to the same bits. `progress` is called with the steps done and the steps in all.
    Raises `ValueError` when a map has another size than its photo.
    """
    _check(ref, sources, depth=depth, shape_prior=shape_prior, visibility=visibility)
    began = time.perf_counter()
    if not settings.iterations or not sources:
        return _unchanged(depth, "no_sources" if settings.iterations else "no_iterations")
    reduction = _reduction(depth.shape, settings.max_pixels)
    stride = settings.stride * reduction
    mesh = mesh_depth(depth, ref.mask, stride=stride, cut_ratio=settings.cut_ratio)
    if not len(mesh.triangles):
        return _unchanged(depth, "no_surface")

    scales = [scale * reduction for scale in settings.scales]
    levels = [
        build_level(
            ref,
            sources,
            scale,
            appearance=settings.appearance,
            window_px=settings.window_px,
            ref_usable=_away_from_edges(depth, settings),
            visibility=visibility,
            device=renderer.device,
        )
        for scale in scales
    ]
    steps = Steps(
        split_evenly(settings.iterations, len(scales)),
        save_every=settings.checkpoint_every,
        checkpoint=checkpoint,
        progress=progress,
    )
    if settings.solver is Solver.GAUSS_NEWTON:
        change = _gauss_newton(mesh, levels, steps, depth, sparse, settings, renderer)
    else:
        surface = surface_of(mesh)
        if settings.decimation < 1:
            surface = decimate(surface, ref.camera, settings.decimation)
        anchors, start, measured = _points(surface, depth, sparse, renderer)
        solver = AdamSolver(
            surface,
            ReferenceTerms(
                ref=ref,
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
        change = _adam(solver, mesh, levels, steps, depth, settings)
    moving = depth > 0 if ref.mask is None else (depth > 0) & ref.mask
    refined = np.where(moving, depth * np.exp(change), depth).astype(np.float32)
    record = {
        "solver": settings.solver.value,
        "renderer": renderer.name,
        "iterations": settings.iterations,
        "sources": len(sources),
        "triangles": len(mesh.triangles),
        "levels": steps.summary(scales),
        "seconds": round(time.perf_counter() - began, 3),
        "flags": [],
    }
    return FineResult(depth=refined, record=record)


def _gauss_newton(
    mesh: GridMesh,
    levels: list[Level],
    steps: Steps,
    depth: Map,
    sparse: SparseDepth,
    settings: FineSettings,
    renderer: Renderer,
) -> Map:
    """Change of log depth (H, W)."""
    anchors, start, measured = _points(surface_of(mesh), depth, sparse, renderer)
    points = PointTargets(
        anchors=anchors,
        change=np.log(measured / start),
        error_px=sparse.error_px[anchors.row],
    )
    solver = GaussNewton(mesh, points, settings, renderer)
    state = steps.resume()
    correction = np.zeros(len(mesh.depth)) if state is None else state["correction"]
    for index, level in enumerate(levels):
        for _ in steps.remaining(index):
            correction, energy = solver.step(level, correction)
            steps.finish(energy, partial(dict, correction=correction))
    return spread_to_pixels(mesh, correction.astype(np.float32), depth)


def _adam(
    solver: AdamSolver,
    mesh: GridMesh,
    levels: list[Level],
    steps: Steps,
    depth: Map,
    settings: FineSettings,
) -> Map:
    """Change of log depth (H, W)."""
    solver.run(levels, steps)
    if settings.decimation == 1 and not settings.lateral:
        factor = solver.parameters["factor"].detach().cpu().numpy()
        return spread_to_pixels(mesh, factor, depth)
    return rendered_change(
        solver.reference_depth(moved=False), solver.reference_depth(moved=True), depth
    )


def _points(
    surface: Surface, depth: Map, sparse: SparseDepth, renderer: Renderer
) -> tuple[PointAnchors, NDArray[np.float64], NDArray[np.float64]]:
    """The SfM points on the surface, the start depth at their pixels, and their measured depth."""
    height, width = depth.shape
    anchors = anchor_points(surface, sparse.xy, depth.shape, renderer)
    x = np.clip(sparse.xy[anchors.row, 0].astype(np.int64), 0, width - 1)
    y = np.clip(sparse.xy[anchors.row, 1].astype(np.int64), 0, height - 1)
    start = depth[y, x].astype(np.float64)
    known = start > 0
    anchors = PointAnchors(
        index=anchors.index[known], weight=anchors.weight[known], row=anchors.row[known]
    )
    return anchors, start[known], sparse.depth[anchors.row]


def _away_from_edges(depth: Map, settings: FineSettings) -> NDArray[np.bool_] | None:
    """Reference pixels outside the band along depth edges, where that is asked for."""
    if not settings.edge_band_px:
        return None
    maps = torch.from_numpy(depth)[None]
    return ~edge_band(maps, ratio=settings.cut_ratio, radius=settings.edge_band_px)[0].numpy()


def _reduction(shape: tuple[int, ...], max_pixels: int) -> int:
    """The whole factor by which a photo must shrink to have at most `max_pixels`."""
    reduction = 1
    while shape[0] * shape[1] > max_pixels * reduction**2:
        reduction += 1
    return reduction


def _unchanged(depth: Map, flag: str) -> FineResult:
    return FineResult(depth=depth, record={"iterations": 0, "flags": [flag]})


def _check(
    ref: PosedImage,
    sources: Sequence[PosedImage],
    *,
    depth: Map,
    shape_prior: Map,
    visibility: Sequence[Map | None] | None,
) -> None:
    for name, value in (("depth", depth), ("shape_prior", shape_prior)):
        if value.shape != ref.camera.shape or value.dtype != np.float32:
            raise ValueError(
                f"{name} must be float32 {ref.camera.shape}, not {value.dtype} {value.shape}"
            )
    if visibility is None:
        return
    if len(visibility) != len(sources):
        raise ValueError(f"visibility must have {len(sources)} entries, not {len(visibility)}")
    for source, weight in zip(sources, visibility, strict=True):
        if weight is not None and weight.shape != source.camera.shape:
            raise ValueError(f"visibility must be {source.camera.shape}, not {weight.shape}")
