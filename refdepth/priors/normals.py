"""The user's own normal maps, given in the pixel grid of the input photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.geometry.lens import InputPhoto, input_pixels, sample_map
from refdepth.ingest import NameTable
from refdepth.io.normal_files import SUFFIXES, read_normal_file, unit
from refdepth.types.scene import View

_MAX_PIXELS, _LEAST_FACTOR = 600_000, 2
"""Of the grid that they are kept on: what looks at them lies on coarser ones than photos."""
_SAME_ASPECT = 0.02


class GivenNormals:
    """A folder with one map a photo: `NAME.npy` (`.npz`, `.png`) for `NAME.jpg`, of any resolution,
    in the grid of the whole photo as it is shown. Lens distortion is taken out here."""

    def __init__(
        self, folder: Path, names: NameTable, photo_of: Callable[[View], InputPhoto]
    ) -> None:
        """`photo_of` tells which input photo a view was made from. Raises `InputError` where a map
        may belong to several photos."""
        self._files = names.files(folder, SUFFIXES).files
        self._photo_of = photo_of

    def of(self, view: View) -> tuple[NDArray[np.float32], int] | None:
        """Unit normals (h, w, 3) in the view's camera axes, towards the camera, 0 where unknown,
        for blocks of pixels of the view, and how many pixels these have along a side; None for a
        view without a map. Raises `InputError` as `read_normal_file` does, and for a map of another
        shape than the photo's."""
        path = self._files.get(view.name)
        if path is None:
            return None
        given, photo = read_normal_file(path), self._photo_of(view)
        height, width = given.shape[:2]
        rounding = 1 / min(height, width)
        if abs(width * photo.height / (height * photo.width) - 1) > _SAME_ASPECT + rounding:
            raise InputError(
                f"the map is {width}x{height}, its photo {photo.width}x{photo.height}: another"
                " shape.",
                subject=path,
                action="Give maps of the whole photo as it is shown, at any resolution.",
            )
        grid = WorkGrid.for_photo(view.camera, max_pixels=_MAX_PIXELS, least_factor=_LEAST_FACTOR)
        xy = input_pixels(grid.camera, photo) * [width / photo.width, height / photo.height]
        known = np.where((given != 0).any(axis=2, keepdims=True), given, np.nan)
        sampled = np.stack([sample_map(known[..., axis], xy) for axis in range(3)], axis=2)
        found = unit(np.nan_to_num(sampled))
        away = (found * grid.camera.rays()).sum(axis=2) >= 0
        found[away] = 0
        return found, grid.factor


def on_grid(
    normals: NDArray[np.float32], step: int, shape: tuple[int, int], factor: int
) -> NDArray[np.float32]:
    """`normals` (h, w, 3) of blocks of `step` photo pixels for the blocks of `factor` pixels of a
    grid of `shape`: those that each block's centre lies in."""
    rows, columns = (
        np.minimum(((np.arange(count) + 0.5) * factor / step).astype(np.int64), size - 1)
        for count, size in zip(shape, normals.shape[:2], strict=True)
    )
    return np.ascontiguousarray(normals[np.ix_(rows, columns)])
