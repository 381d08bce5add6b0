"""One photo as the method sees it: grey, masked and with its camera, on the working grid."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, namespace, put
from refdepth.geometry.grid import WorkGrid, block_means, strips
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import PosedImage, in_unit_range

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""


class WorkingView:
    """Made once a photo, shared by all views that look at it. Read-only.

    What the mask leaves out is in `usable`, which everything that compares photos or lets depth
    maps vote goes through. `on` gives the same view with its maps on a device.
    """

    def __init__(
        self,
        grid: WorkGrid,
        cam_from_world: NDArray[np.float64],
        gray: Array,
        usable: Array,
        load: Callable[[], PosedImage],
        *,
        masked: bool,
        device: torch.device | None = None,
    ) -> None:
        """`load` gives the photo when somebody asks for full pixels; `masked` says whether anything
        is not `usable`."""
        self.device = device
        """Where the maps live; None: NumPy arrays."""
        self.masked = masked
        self.grid = grid
        self.cam_from_world = cam_from_world
        self.gray = gray
        """Luma (h, w) in [0, 1]."""
        self.usable = usable
        """Where the photo may be used (h, w)."""
        self._load = load
        self._derived: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, photo: PosedImage, *, max_pixels: int, least_factor: int = 1) -> WorkingView:
        """From a photo in memory, which is kept; the limits are `WorkGrid.for_photo`'s."""
        return cls._shrunken(photo, lambda: photo, max_pixels, least_factor)

    @classmethod
    def loaded(
        cls, load: Callable[[], PosedImage], *, max_pixels: int, least_factor: int = 1
    ) -> WorkingView:
        """From a photo that `load` gives, now and whenever somebody asks for full pixels: only what
        the working grid needs is kept."""
        return cls._shrunken(load(), load, max_pixels, least_factor)

    @classmethod
    def _shrunken(
        cls, photo: PosedImage, load: Callable[[], PosedImage], max_pixels: int, least_factor: int
    ) -> WorkingView:
        grid = WorkGrid.for_photo(photo.camera, max_pixels=max_pixels, least_factor=least_factor)
        gray, usable = _reduced_gray(photo, grid.factor), grid.shrink_mask(photo.mask)
        masked = not usable.all()
        return cls(grid, photo.cam_from_world, gray, usable, load, masked=masked)

    def on(self, device: torch.device | None) -> WorkingView:
        """The same view with its maps as tensors on `device`, uploaded once for all that look at
        it; itself where they are. Full photos stay on the host."""
        if device == self.device:
            return self
        if self.device is not None:
            raise ValueError(f"a view on {self.device} cannot be had on {device}: ask the first")

        def upload() -> WorkingView:
            return WorkingView(
                self.grid,
                self.cam_from_world,
                put(self.gray, device),
                put(self.usable, device),
                self._load,
                masked=self.masked,
                device=device,
            )

        return self.derived(("on", str(device)), upload)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, without full pixels."""
        derived = sum(value.nbytes for value in self._derived.values())
        return self.gray.nbytes + self.usable.nbytes + derived

    def derived(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """What `make` computes from the photo: once for all views that look at it. `key` says what
        it is; it is an array or tensor (it has `nbytes`), and nobody may change it."""
        if key not in self._derived:
            self._derived[key] = make()
        found: Value = self._derived[key]
        return found

    def reduced(self, by: int) -> WorkingView:
        """The same view on a grid `by` times as coarse."""
        return self.at(by * self.grid.factor)

    def at(self, factor: int) -> WorkingView:
        """The same view on the grid of another factor: a finer one is made from the photo."""

        def make() -> WorkingView:
            grid = WorkGrid(photo=self.grid.photo, factor=factor)
            if factor % self.grid.factor:
                photo = self.photo()
                gray = put(_reduced_gray(photo, factor), self.device)
                usable = put(grid.shrink_mask(photo.mask), self.device)
            else:
                gray, usable = self.gray_at(factor), self.usable_at(factor)
            return WorkingView(
                grid,
                self.cam_from_world,
                gray,
                usable,
                self._load,
                masked=self.masked,
                device=self.device,
            )

        return self if factor == self.grid.factor else self.derived(("at", factor), make)

    def part(self, rows: slice) -> WorkingView:
        """Some rows of the working grid, and of the photo, as a view of its own."""
        photo, factor = self.grid.photo, self.grid.factor
        own = slice(rows.start * factor, min(rows.stop * factor, photo.height))
        K = photo.K.copy()
        K[1, 2] -= own.start
        camera = PinholeCamera(K=K, width=photo.width, height=own.stop - own.start)

        def load() -> PosedImage:
            whole = self.photo()
            mask = None if whole.mask is None else whole.mask[own]
            return replace(whole, image=whole.image[own], camera=camera, mask=mask)

        return WorkingView(
            WorkGrid(photo=camera, factor=factor),
            self.cam_from_world,
            self.gray[rows],
            self.usable[rows],
            load,
            masked=self.masked,
            device=self.device,
        )

    def photo(self) -> PosedImage:
        """The full photo with its mask."""
        return self._load()

    def photo_mask(self) -> NDArray[np.bool_] | None:
        """Where the photo may be used (H, W), in its own grid; None means everywhere."""
        return self.photo().mask if self.masked else None

    def gray_at(self, factor: int) -> Array:
        """Luma of the photo reduced by `factor` (block means)."""
        if factor % self.grid.factor == 0:
            return block_means(self.gray, factor // self.grid.factor)
        return put(_reduced_gray(self.photo(), factor), self.device)

    def usable_at(self, factor: int) -> Array:
        """Where every pixel of a block of the photo reduced by `factor` may be used."""
        if factor % self.grid.factor == 0:
            xp = namespace(self.usable)
            usable = xp.astype(self.usable, xp.float32)
            return block_means(usable, factor // self.grid.factor) > 0.999
        grid = WorkGrid(photo=self.grid.photo, factor=factor)
        return put(grid.shrink_mask(self.photo().mask), self.device)


def _reduced_gray(photo: PosedImage, factor: int) -> NDArray[np.float32]:
    """Block means (h, w) of a photo's luma."""
    parts = (photo.image[rows] for rows in strips(photo.camera.height, factor))
    return np.concatenate([block_means(to_gray(in_unit_range(part)), factor) for part in parts])


def to_gray(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Luma (H, W) of an RGB picture (H, W, 3) in [0, 1]."""
    return np.ascontiguousarray(rgb @ LUMA)
