"""Matching cost: windows of the reference, warped into the sources and compared by ZNCC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost_kernels import MIN_VARIANCE, TILE, cost_volume, describe_windows
from refdepth.matching.settings import MatchSettings
from refdepth.types.camera import projection_from_ref, relative_pose

Map = NDArray[np.float32]
TEXTURE_GAIN = 40.0
"""Texture is full at a window's grey-level deviation of 1 / 40: some six levels of 256."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """The reference's windows on its working grid (H, W), whatever they are compared with."""

    view: WorkingView
    weights: Map
    """Support weights of the pixels of each window, which sum to 1, as `describe_windows` stores
    them."""
    mean: Map
    variance: Map
    texture: Map
    """How much a window has to say, in [0, 1]."""

    @classmethod
    def of(cls, view: WorkingView, settings: MatchSettings) -> Windows:
        """The windows of a view."""
        gray = view.gray
        side = settings.window_px // 2 * 2 + 1
        height, width = gray.shape
        weights = np.zeros((height, -(-width // TILE), side, side * TILE), np.float32)
        mean, square = np.zeros_like(gray), np.zeros_like(gray)
        describe_windows(gray, settings.support_gray, weights, mean, square)
        variance = np.maximum(square - mean**2, np.float32(MIN_VARIANCE))
        return cls(
            view=view,
            weights=weights,
            mean=mean,
            variance=variance,
            texture=_texture(variance, side),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A reference's windows and the sources they are compared with."""

    windows: Windows
    A: Map
    """With `b`: reference pixel (x, y) at z lies at A (x, y, 1) z + b in a source (S, 3, 3)."""
    b: Map
    images: Map
    """Luma of the sources (S, Hs, Ws), padded to the largest."""
    usable: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    """Height and width of each source (S, 2)."""

    @classmethod
    def of(cls, windows: Windows, sources: Sequence[WorkingView]) -> Comparison:
        """`windows` against `sources`, each on its own working grid."""
        ref = windows.view
        sizes = np.array([source.gray.shape for source in sources], dtype=np.int64).reshape(-1, 2)
        # Bilinear lookups read two pixels a side.
        largest = sizes.max(axis=0, initial=2)
        images = np.zeros((len(sources), *largest), np.float32)
        usable = np.zeros(images.shape, bool)
        A = np.empty((len(sources), 3, 3), np.float32)
        b = np.empty((len(sources), 3), np.float32)
        for i, source in enumerate(sources):
            height, width = source.gray.shape
            images[i, :height, :width] = source.gray
            usable[i, :height, :width] = source.usable
            A[i], b[i] = projection_from_ref(
                ref.grid.camera,
                source.grid.camera,
                relative_pose(source.cam_from_world, ref.cam_from_world),
            )
        return cls(windows=windows, A=A, b=b, images=images, usable=usable, sizes=sizes)

    @property
    def view(self) -> WorkingView:
        """The reference."""
        return self.windows.view

    def volume(self, depth: Map, factors: Map, best_sources: int) -> Map:
        """1 - ZNCC (H, W, D) at depth * factors[d], mean of the best sources."""
        volume = np.empty((*depth.shape, len(factors)), np.float32)
        cost_volume(
            self.view.gray,
            self.windows.weights,
            self.windows.mean,
            self.windows.variance,
            depth,
            factors.astype(np.float32),
            self.A,
            self.b,
            self.images.reshape(len(self.images), -1),
            self.usable.reshape(len(self.images), -1),
            self.sizes,
            self.images.shape[2],
            min(best_sources, len(self.images)),
            (0,) * self.windows.weights.shape[2],
            volume,
        )
        return volume

    def cost(self, depth: Map, best_sources: int = 1) -> Map:
        """1 - ZNCC (H, W) at `depth` (H, W), mean of the best sources."""
        return self.volume(depth, np.ones(1, np.float32), best_sources)[..., 0]


def _texture(variance: Map, side: int) -> Map:
    """How much each window has to say (H, W), in [0, 1], from its grey-level variance.

    The least of all windows around a pixel: a plain pixel beside a textured thing has texture in
    its window, but that tells the depth of the thing, not its own.
    """
    texture = np.minimum(np.sqrt(variance) * np.float32(TEXTURE_GAIN), np.float32(1))
    return ndimage.minimum_filter(texture, side)
