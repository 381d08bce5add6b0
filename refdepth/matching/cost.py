"""Matching cost: windows of the reference, warped into the sources and compared by ZNCC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, at_least, at_most, is_tensor, namespace, put
from refdepth.geometry.filters import minimum_filter
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost_kernels import MIN_VARIANCE, TILE, cost_volume, describe_windows
from refdepth.matching.settings import MatchSettings
from refdepth.types.camera import projection_from_ref, relative_pose

TEXTURE_GAIN = 40.0
"""Texture is full at a window's grey-level deviation of 1 / 40: some six levels of 256."""
PLAIN_TEXTURE = TEXTURE_GAIN * MIN_VARIANCE**0.5
"""Texture of a window without any: what it would have at the variance that is taken for none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """The reference's windows on its working grid (H, W), whatever they are compared with."""

    view: WorkingView
    weights: Array
    """Support weights of the pixels of each window, which sum to 1, as `describe_windows` stores
    them."""
    mean: Array
    """Of each window's grey levels, less the pixel's own."""
    variance: Array
    texture: Array
    """How much a window has to say, in [0, 1]."""

    @classmethod
    def of(cls, view: WorkingView, settings: MatchSettings) -> Windows:
        """The windows of a view."""
        gray = view.gray
        side = settings.window_px // 2 * 2 + 1
        weights: Array
        mean: Array
        square: Array
        if is_tensor(gray):
            from refdepth.matching import torch_cost

            weights, mean, square = torch_cost.describe_windows(
                gray, view.usable, side, settings.support_gray
            )
        else:
            height, width = gray.shape
            weights = np.zeros((height, -(-width // TILE), side, side * TILE), np.float32)
            mean, square = np.empty_like(gray), np.empty_like(gray)
            describe_windows(gray, view.usable, settings.support_gray, weights, mean, square)
        variance = at_least(square - mean**2, MIN_VARIANCE)
        deviation = namespace(variance).sqrt(variance)
        return cls(
            view=view,
            weights=weights,
            mean=mean,
            variance=variance,
            texture=_texture(deviation, view.usable, side),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A reference's windows and the sources they are compared with."""

    windows: Windows
    A: Array
    """With `b`: reference pixel (x, y) at z lies at A (x, y, 1) z + b in a source (S, 3, 3)."""
    b: Array
    images: Array
    """Luma of the sources (S, Hs, Ws), padded to the largest."""
    usable: Array
    sizes: NDArray[np.int64]
    """Height and width of each source (S, 2)."""

    @classmethod
    def of(cls, windows: Windows, sources: Sequence[WorkingView]) -> Comparison:
        """`windows` against `sources`, each on its own working grid."""
        ref = windows.view
        sizes = np.array([source.grid.shape for source in sources], dtype=np.int64).reshape(-1, 2)
        # Bilinear lookups read two pixels a side.
        largest = sizes.max(axis=0, initial=2)
        xp = namespace(ref.gray)
        shape = (len(sources), *map(int, largest))
        images = xp.zeros(shape, dtype=xp.float32, device=ref.gray.device)
        usable = xp.zeros(shape, dtype=xp.bool, device=ref.gray.device)
        A = np.empty((len(sources), 3, 3), np.float32)
        b = np.empty((len(sources), 3), np.float32)
        for i, source in enumerate(sources):
            height, width = source.grid.shape
            images[i, :height, :width] = source.gray
            usable[i, :height, :width] = source.usable
            A[i], b[i] = projection_from_ref(
                ref.grid.camera,
                source.grid.camera,
                relative_pose(source.cam_from_world, ref.cam_from_world),
            )
        return cls(
            windows=windows,
            A=put(A, ref.device),
            b=put(b, ref.device),
            images=images,
            usable=usable,
            sizes=sizes,
        )

    @property
    def view(self) -> WorkingView:
        """The reference."""
        return self.windows.view

    def volume(self, depth: Array, factors: Array, best_sources: int) -> Array:
        """1 - ZNCC (H, W, D) at depth * factors[d], mean of the best sources."""
        best = min(best_sources, len(self.images))
        if is_tensor(depth):
            from refdepth.matching import torch_cost

            return torch_cost.cost_volume(
                self.view.gray,
                self.windows.weights,
                self.windows.mean,
                self.windows.variance,
                depth,
                factors,
                self.A,
                self.b,
                self.images,
                self.usable,
                [(int(height), int(width)) for height, width in self.sizes],
                best,
            )
        volume = np.empty((*depth.shape, len(factors)), np.float32)
        cost_volume(
            self.view.gray,
            self.windows.weights,
            self.windows.mean,
            self.windows.variance,
            depth,
            factors,
            self.A,
            self.b,
            self.images.reshape(len(self.images), -1),
            self.usable.reshape(len(self.images), -1),
            self.sizes,
            self.images.shape[2],
            best,
            (0,) * self.windows.weights.shape[2],
            volume,
        )
        return volume

    def cost(self, depth: Array, best_sources: int = 1) -> Array:
        """1 - ZNCC (H, W) at `depth` (H, W), mean of the best sources."""
        as_it_is = put(np.ones(1, np.float32), self.view.device)
        return self.volume(depth, as_it_is, best_sources)[..., 0]


def _texture(deviation: Array, usable: Array, side: int) -> Array:
    """How much each window has to say (H, W), in [0, 1], from the deviation of its grey levels.

    The least of all `usable` windows around a pixel: a plain pixel beside a textured thing has
    texture in its window, but that tells the depth of the thing, not its own.
    """
    texture = namespace(deviation).where(usable, at_most(deviation * TEXTURE_GAIN, 1.0), 1.0)
    return minimum_filter(texture, side)
