"""The user's own depth maps as priors, given in the pixel grid of the input photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import ConfigurationError, InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.geometry.lens import InputPhoto, input_pixels, sample_map, turn_upright
from refdepth.ingest import NameTable
from refdepth.io.depth_files import SUFFIXES, read_depth_file
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

_SAME_ASPECT = 0.02
_SAMPLES_A_VALUE = 2
"""Samples taken along either side of a value of a map that is coarser than its photo: what is then
interpolated between them is the map, not a smoother one."""
_PATCHES, _FEWEST_PATCHES = (14, 16, 32), 8
"""Networks round width and height each to whole patches (px); of fewer along the shorter side, any
shape would be a rounded one."""


class MapsPrior:
    """A folder with one map a photo: `NAME.npy` (`.npz`, `.tiff`, `.png`) for `NAME.jpg`.

    Maps may have any resolution, and cover the whole photo: one whose width and height a network
    rounded to whole patches is stretched back. They are in the grid of the photo as it is shown,
    or as it is stored where only that fits their shape, and are resampled through the lens into
    the view.
    """

    def __init__(
        self,
        folder: Path,
        kind: PriorKind | str,
        photo_of: Callable[[View], InputPhoto] | None = None,
        *,
        names: NameTable | None = None,
        unit: float | None = None,
    ) -> None:
        """`photo_of` tells which input photo a view was made from; without it maps are in the grid
        of the view's own, undistorted picture. `names` are the photos' names by view; without it
        those of the scene's views. `unit` declares a metric map's unit: metres in one unit of the
        file's values, of one level of a 16-bit picture. Without it no metres are claimed. In metric
        maps 0 or less means unknown.

        Raises `InputError` when `folder` is none, `ConfigurationError` for a unit of other kinds.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                "no such folder of depth maps.", subject=folder, action="Correct the path."
            )
        self.kind = PriorKind(kind)
        check_unit(self.kind, unit)
        self._photo_of = photo_of or _picture_of
        self._names = names
        self._unit = unit
        self._found: tuple[Scene, Mapping[str, Path]] | None = None

    @property
    def identity(self) -> Mapping[str, str]:
        """Kind and unit. The maps' content is an input of the run, hashed as such."""
        identity = {"source": "maps", "kind": self.kind.value}
        return identity if self._unit is None else identity | {"unit": f"{self._unit!r}"}

    def missing(self, scene: Scene) -> tuple[str, ...]:
        """Names of the views that have no map. Raises `InputError` as `find` does."""
        self._found = None
        return tuple(view.name for view in scene.views if self.find(view, scene) is None)

    def find(self, view: View, scene: Scene) -> Path | None:
        """The map of a view's photo, or None; the folder is read once for a scene.

        Raises `InputError` when a map may belong to several photos (see `NameTable.files`).
        """
        if self._found is None or self._found[0] is not scene:
            names = self._names or NameTable({v.name: self._photo_of(v).name for v in scene.views})
            self._found = scene, names.files(self.folder, SUFFIXES).files
        return self._found[1].get(view.name)

    def estimate(self, view: View, scene: Scene) -> Prior:
        """The map of the view's photo in the view's grid, or one that is coarser by a whole factor
        where the map is, twice as finely as that.

        Raises `InputError` when it is missing, cannot be read, or has another shape than the
        photo.
        """
        photo = self._photo_of(view)
        path = self.find(view, scene)
        if path is None:
            raise InputError(
                f"there is no depth map for {photo.name}.",
                subject=self.folder,
                action=f"Add {photo.name}{SUFFIXES[0]}, or one of {', '.join(SUFFIXES[1:])}.",
            )
        values = self._upright(read_depth_file(path, png_scale=1), photo, path)
        if self.kind == PriorKind.METRIC:
            values = np.where(values > 0, values, np.nan)
        if self._unit is not None:
            values = (values.astype(np.float64) * self._unit).astype(np.float32)
        height, width = values.shape
        factor = max(1, photo.width // (_SAMPLES_A_VALUE * width))
        grid = WorkGrid(photo=view.camera, factor=factor)
        xy = input_pixels(grid.camera, photo)
        if factor > 1:  # the centres of the last row and column may lie beyond the photo
            within = np.clip(xy, 0, [photo.width, photo.height])
            xy = np.where(np.abs(xy - within) < factor, within, xy)
        xy *= [width / photo.width, height / photo.height]
        return Prior(
            values=sample_map(values, xy),
            kind=self.kind,
            in_metres=self._unit is not None,
            step=(factor, factor),
        )

    def _upright(
        self, values: NDArray[np.float32], photo: InputPhoto, path: Path
    ) -> NDArray[np.float32]:
        turned = np.asarray(turn_upright(values, photo.orientation), dtype=np.float32)
        for fits in (_same_aspect, _rounded_aspect):
            for upright in (values, turned):
                if fits(upright.shape, photo):
                    return upright
        raise InputError(
            f"the map is {values.shape[1]}x{values.shape[0]}, its photo "
            f"{photo.width}x{photo.height}: another shape.",
            subject=path,
            action="Give maps of the whole photo, at any resolution.",
        )


def check_unit(kind: PriorKind, unit: float | None) -> None:
    """Raises `ConfigurationError` for a unit that values of `kind` cannot have."""
    if unit is not None and not (kind == PriorKind.METRIC and unit > 0):
        raise ConfigurationError(
            f"values of {kind.value} maps have no unit of {unit:g} m.",
            subject="depth.maps_unit",
            action="Declare a positive unit with --depth-kind metric, or none.",
        )


def _picture_of(view: View) -> InputPhoto:
    """The view's own picture as its input photo."""
    K = view.camera.K
    return InputPhoto(
        name=view.name,
        camera_model="PINHOLE",
        width=view.camera.width,
        height=view.camera.height,
        camera_params=(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])),
    )


def _same_aspect(shape: tuple[int, ...], photo: InputPhoto) -> bool:
    """Whether the shapes agree, but for what rounding a size can do."""
    height, width = shape
    rounding = 1 / min(height, width)
    return abs(width * photo.height / (height * photo.width) - 1) <= _SAME_ASPECT + rounding


def _rounded_aspect(shape: tuple[int, ...], photo: InputPhoto) -> bool:
    """Whether at some scale the photo's width and height, each rounded to whole patches (both up,
    both down or both to the nearest), give the shape."""
    height, width = shape
    off = abs(width * photo.height - height * photo.width)
    return any(
        width % patch == 0
        and height % patch == 0
        and min(height, width) >= _FEWEST_PATCHES * patch
        and off < patch * max(photo.width, photo.height)
        for patch in _PATCHES
    )
