"""Detail that the working grid cannot hold, from a network that is guided by the refined depth and
sees more of the photo; taken where the photos agree better with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, fetch, is_tensor, namespace, put_like
from refdepth.geometry.grid import WorkGrid, by_strips, depth_grown, log_ratio, strips
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.propagation import propagate, solve
from refdepth.matching.search import edge_links
from refdepth.refine.closer import by_parts
from refdepth.refine.problem import ANCHOR, LEAST_LINK
from refdepth.refine.settings import RefineSettings
from refdepth.refine.slant import POOLING

CLEAR_GAIN = 0.05
"""Pooled gain in correlation from which detail is taken."""
LEAST_POOLING = 0.15
"""How much of it still goes across edges: a few pixels that edges close in would decide alone, and
among many such some correlate better by chance."""


class Upsampler(Protocol):
    """What says more of a depth map than it holds."""

    def __call__(
        self, pixels: NDArray[np.uint8], prompt: NDArray[np.float32], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Depth of an RGB picture (H, W, 3) at about `shape`, spread evenly over all of it and in
        the unit of `prompt` (h, w; all known), the depth to start from; what is not positive and
        finite is unknown."""
        ...


def take_detail(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    depth: Array,
    upsampler: Upsampler,
    settings: RefineSettings,
    *,
    farthest: float | None = None,
) -> tuple[Array, float]:
    """`depth` (H, W; photo's grid; 0 unknown) with the detail of an `upsampler` where the photos
    correlate more over it, and the share of the pixels that have it. The upsampler is told of no
    depth beyond `farthest`.

    What it says is first brought to `depth` by a smooth factor that edges of picture and depth
    interrupt: what the working grid shows of a surface is not the network's to say. No finer grid
    than the working one, no detail. Memory is as in `closer.look_closer`.
    """
    grid = WorkGrid.for_photo(ref.grid.photo, **settings.upsampler_grid)
    if grid.factor == ref.grid.factor:
        return depth, 0.0
    base = ref.grid.shrink_depth(depth)
    prompt = fetch(base)
    if not (prompt > 0).any():
        return depth, 0.0
    prompt = np.where(prompt > 0, prompt, np.median(prompt[prompt > 0]))
    prompt = np.minimum(prompt, np.inf if farthest is None else farthest).astype(np.float32)
    told = upsampler(_pixels(ref.photo().image), prompt, grid.shape)
    told = np.where(np.isfinite(told) & (told > 0), told, np.nan).astype(np.float32)
    photo = ref.grid.photo.shape
    step = photo[0] / told.shape[0], photo[1] / told.shape[1]
    other = _fitted(ref, base, depth_grown(put_like(told, depth), photo, step), depth, settings)
    fine, *near = (view.at(grid.factor) for view in (ref, *sources))

    def judged(part: WorkingView, own: Array, its: Array) -> Array:
        better = _gain(part, near, own, its, settings) > CLEAR_GAIN
        return part.grid.grow(namespace(own).astype(better, own.dtype))

    share = by_parts(judged, fine, settings.working_pixels, depth, other)
    xp = namespace(depth)
    taken = (share > 0.5) & (depth > 0)
    return xp.where(taken, other, depth), float(xp.mean(xp.astype(taken, xp.float32)))


def _pixels(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """A photo (H, W, 3), in [0, 1] or of bytes, as bytes."""
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    parts = [image[rows].clip(0, 1) * np.float32(255) for rows in strips(len(image))]
    return np.concatenate([np.rint(part).astype(np.uint8) for part in parts])


def _fitted(
    ref: WorkingView, base: Array, told: Array, depth: Array, settings: RefineSettings
) -> Array:
    """`told` (H, W; NaN unknown) times the smooth factor that brings it to `depth`; that itself
    where nothing is told. `base` is `depth` on the working grid."""
    xp = namespace(depth)
    told = xp.where(xp.isnan(told), 0.0, told)
    spread = settings.upsampler.spread
    off = log_ratio(base, ref.grid.shrink_depth(told))
    known = xp.astype((ref.grid.shrink_depth(told) > 0) & (base > 0), xp.float32)
    links = edge_links(
        ref.gray,
        base,
        image_edge=spread.image_edge,
        depth_edge=spread.depth_edge,
        floor=LEAST_LINK,
    )
    factor = propagate(
        off[None],
        known[None],
        *links,
        smoothness=spread.smoothness,
        outlier=spread.outlier,
        anchor=ANCHOR,
        rounds=spread.rounds,
    )
    return by_strips(
        lambda a, b, c: xp.where(a > 0, a * xp.exp(b), c), told, ref.grid.grow(factor), depth
    )


def _gain(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    own: Array,
    its: Array,
    settings: RefineSettings,
) -> Array:
    """How much more the photos correlate over `its` depth than over the `own` (photo's grid of
    `ref`; h, w on its working grid), pooled over surfaces that edges of either set apart."""
    match, edges = settings.upsampler.match, settings.propagation
    windows = Windows.of(ref, match)
    comparison = Comparison.of(windows, sources)
    one, two = ref.grid.shrink_depth(own), ref.grid.shrink_depth(its)
    xp = namespace(one)
    gain = comparison.cost(one, match.best_sources) - comparison.cost(two, match.best_sources)
    weight = windows.texture * ref.usable * (one > 0) + 1e-3
    link_x, link_y = (
        xp.minimum(*links)
        for links in zip(
            *(
                edge_links(
                    ref.gray,
                    depth,
                    image_edge=edges.image_edge,
                    depth_edge=edges.depth_edge,
                    floor=LEAST_POOLING,
                )
                for depth in (one, two)
            ),
            strict=True,
        )
    )
    system = weight, POOLING * link_x, POOLING * link_y, weight * gain
    if not is_tensor(gain):  # as the solver on the CPU is compiled
        system = tuple(part.astype(np.float64) for part in system)
    return solve(*system)
