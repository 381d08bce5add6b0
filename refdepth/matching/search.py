"""Discrete search: which of a set of depths along each ray looks most alike in the neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.geometry.grid import shrink, shrink_camera
from refdepth.matching.aggregation import aggregate, pick_minimum
from refdepth.matching.cost_kernels import MIN_VARIANCE, cost_volume, support_weights
from refdepth.refine.settings import MatchSettings
from refdepth.types.camera import projection_from_ref, relative_pose
from refdepth.types.scene import PosedImage

GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
TEXTURE_GAIN = 40.0
"""Texture is full at a window's grey-level deviation of 1 / 40: some six levels of 256."""
WEAKEST_VOTE = 0.15
"""Share of its cost that a window without texture keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchInput:
    """A reference and its sources on the working grid, ready to be compared."""

    factor: int
    gray: NDArray[np.float32]
    """Reference (H, W) in [0, 1]."""
    usable: NDArray[np.bool_]
    """Where the reference may be used (H, W)."""
    weights: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    texture: NDArray[np.float32]
    """How much a window has to say (H, W), in [0, 1]."""
    A: NDArray[np.float32]
    b: NDArray[np.float32]
    images: NDArray[np.float32]
    images_usable: NDArray[np.bool_]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What a search found at each pixel of the working grid (H, W)."""

    step: NDArray[np.float32]
    """Position in the list of hypotheses, fractional."""
    zncc: NDArray[np.float32]
    """Correlation of the chosen hypothesis, mean of the best sources."""
    texture: NDArray[np.float32]


def to_gray(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Luma (H, W) of an RGB picture in [0, 1]."""
    return np.ascontiguousarray(image @ GRAY)


def prepare_match(
    ref: PosedImage, sources: Sequence[PosedImage], factor: int, settings: MatchSettings
) -> MatchInput:
    """Shrinks the pictures by `factor` and prepares the reference's windows."""
    gray = shrink(to_gray(ref.image), factor)
    camera = shrink_camera(ref.camera, factor)
    side = settings.window_px // 2 * 2 + 1
    weights = np.empty((side * side, *gray.shape), np.float32)
    support_weights(gray, side // 2, settings.support_gray, weights)
    mean, square = _window_moments(gray, weights)
    variance = np.maximum(square - mean**2, np.float32(MIN_VARIANCE))
    grays = [shrink(to_gray(source.image), factor) for source in sources]
    sizes = np.array([picture.shape for picture in grays], dtype=np.int64).reshape(-1, 2)
    largest = sizes.max(axis=0) if len(sizes) else np.zeros(2, np.int64)
    images = np.zeros((len(grays), *largest), np.float32)
    usable = np.zeros(images.shape, bool)
    A = np.empty((len(grays), 3, 3), np.float32)
    b = np.empty((len(grays), 3), np.float32)
    for i, (source, picture) in enumerate(zip(sources, grays, strict=True)):
        height, width = picture.shape
        images[i, :height, :width] = picture
        usable[i, :height, :width] = _usable(source, factor)
        A[i], b[i] = projection_from_ref(
            camera,
            shrink_camera(source.camera, factor),
            relative_pose(source.cam_from_world, ref.cam_from_world),
        )
    return MatchInput(
        factor=factor,
        gray=gray,
        usable=_usable(ref, factor),
        weights=weights,
        mean=mean,
        variance=variance,
        texture=_texture(variance, side),
        A=A,
        b=b,
        images=images,
        images_usable=usable,
        sizes=sizes,
    )


def _texture(variance: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """How much each window has to say (H, W), in [0, 1], from its grey-level variance.

    The least of all windows around a pixel: a plain pixel beside a textured thing has texture in
    its window, but that tells the depth of the thing, not its own.
    """
    texture = np.minimum(np.sqrt(variance) * np.float32(TEXTURE_GAIN), np.float32(1))
    return ndimage.minimum_filter(texture, side)


def _usable(view: PosedImage, factor: int) -> NDArray[np.bool_]:
    """Where every pixel of a block may be used."""
    if view.mask is None:
        camera = shrink_camera(view.camera, factor)
        return np.ones(camera.shape, bool)
    return shrink(view.mask.astype(np.float32), factor) > 0.999


def _window_moments(
    gray: NDArray[np.float32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weighted mean and mean square of each window (H, W)."""
    side = round(len(weights) ** 0.5)
    padded = np.pad(gray, side // 2)
    mean, square = np.zeros_like(gray), np.zeros_like(gray)
    for t, weight in enumerate(weights):
        y, x = divmod(t, side)
        tap = padded[y : y + gray.shape[0], x : x + gray.shape[1]]
        mean += weight * tap
        square += weight * tap * tap
    return mean, square


def search(
    match: MatchInput,
    depth: NDArray[np.float32],
    factors: NDArray[np.float32],
    settings: MatchSettings,
    *,
    extra: NDArray[np.float32] | None = None,
) -> Match:
    """Compares the hypotheses depth * factors[d] at every pixel of `depth` (H, W, working grid).

    Costs are 1 - ZNCC over the best sources, weighted with texture, plus `extra` ((D,) or
    (H, W, D)), aggregated along scan lines; image and depth edges free neighbours.
    """
    volume = _volume(match, depth, factors, settings.best_sources)
    vote = np.where(match.usable, WEAKEST_VOTE + (1 - WEAKEST_VOTE) * match.texture, 0)
    vote = vote.astype(np.float32)
    total = np.zeros_like(volume)
    weighted = volume * vote[..., None]
    if extra is not None:
        weighted += extra
    link_x, link_y = edge_links(
        match.gray, depth, image_edge=settings.image_edge, depth_edge=settings.depth_edge
    )
    aggregate(weighted, link_x, link_y, settings.small_penalty, settings.large_penalty, total)
    step = np.empty(depth.shape, np.float32)
    pick_minimum(total, step)
    nearest = np.clip(np.rint(step), 0, len(factors) - 1).astype(np.int64)
    cost = np.take_along_axis(volume, nearest[..., None], axis=2)[..., 0]
    return Match(step=step, zncc=1 - cost, texture=match.texture * match.usable)


def matching_cost(
    match: MatchInput, depth: NDArray[np.float32], best_sources: int = 1
) -> NDArray[np.float32]:
    """1 - ZNCC at `depth` (H, W, working grid), mean of the best sources."""
    return _volume(match, depth, np.ones(1, np.float32), best_sources)[..., 0]


def _volume(
    match: MatchInput, depth: NDArray[np.float32], factors: NDArray[np.float32], best: int
) -> NDArray[np.float32]:
    """Costs (H, W, D) of depth * factors[d]."""
    volume = np.empty((*depth.shape, len(factors)), np.float32)
    cost_volume(
        match.gray,
        match.weights,
        match.mean,
        match.variance,
        depth,
        factors.astype(np.float32),
        match.A,
        match.b,
        match.images,
        match.images_usable,
        match.sizes,
        min(best, len(match.images)),
        volume,
    )
    return volume


def edge_links(
    gray: NDArray[np.float32],
    depth: NDArray[np.float32],
    *,
    image_edge: float,
    depth_edge: float,
    floor: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How strongly pixels belong to their right (H, W-1) and lower (H-1, W) neighbour: 1 on even
    ground, towards `floor` across edges of the picture or of log depth."""
    log_depth = np.log(np.maximum(depth, np.float32(1e-30)))
    x, y = (
        np.exp(
            -image_edge * np.abs(np.diff(gray, axis=axis))
            - depth_edge * np.abs(np.diff(log_depth, axis=axis))
        ).astype(np.float32)
        + np.float32(floor)
        for axis in (1, 0)
    )
    return x, y
