"""The user's own depth maps as priors, given in the pixel grid of the input photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.lens import InputPhoto, input_pixels, sample_map, turn_upright
from refdepth.io.depth_files import MILLIMETRE, SUFFIXES, read_depth_file
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

_SAME_ASPECT = 0.02


class MapsPrior:
    """A folder with one map a photo: `NAME.npy` (`.npz`, `.tiff`, `.png`) for `NAME.jpg`.

    Maps may have any resolution. They are in the grid of the photo as it is shown, or as it is
    stored where only that fits their shape, and are resampled through the lens into the view.
    """

    def __init__(
        self,
        folder: Path,
        kind: PriorKind,
        photo_of: Callable[[View], InputPhoto],
        *,
        png_scale: float = MILLIMETRE,
    ) -> None:
        """`photo_of` tells which input photo a view was made from. Values of metric maps are
        metres (16-bit pictures: `png_scale` metres a level) and 0 or less means unknown.

        Raises `InputError` when `folder` is none.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                "no such folder of depth maps.", subject=folder, action="Correct the path."
            )
        self.kind = PriorKind(kind)
        self._photo_of = photo_of
        self._png_scale = png_scale

    @property
    def identity(self) -> Mapping[str, str]:
        """Kind and scale. The maps' content is an input of the run, hashed as such."""
        return {"source": "maps", "kind": self.kind.value, "png_scale": f"{self._png_scale:g}"}

    def missing(self, scene: Scene) -> tuple[str, ...]:
        """Names of the views that have no map."""
        return tuple(v.name for v in scene.views if self.find(self._photo_of(v).name) is None)

    def find(self, name: str) -> Path | None:
        """The map of an input photo, or None. A map named after the photo's full name
        (`NAME.jpg.npy`) goes before `NAME.npy`.

        Raises `InputError` when the name or a link leads out of the folder.
        """
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.name:
            raise InputError("the name leads out of the folder of depth maps.", subject=name)
        for base in (name, str(relative.with_suffix(""))):
            for suffix in SUFFIXES:
                path = self.folder / f"{base}{suffix}"
                if not path.is_file():
                    continue
                if not path.resolve().is_relative_to(self.folder.resolve()):
                    raise InputError(
                        "is a link that leads out of the folder of depth maps.",
                        subject=path,
                        action="Copy the map into the folder.",
                    )
                return path
        return None

    def estimate(self, view: View, scene: Scene) -> Prior:
        """The map of the view's photo in the view's grid.

        Raises `InputError` when it is missing, cannot be read, or has another shape than the
        photo.
        """
        photo = self._photo_of(view)
        path = self.find(photo.name)
        if path is None:
            raise InputError(
                f"there is no depth map for {photo.name}.",
                subject=self.folder,
                action=f"Add {PurePosixPath(photo.name).with_suffix('')} with one of "
                f"{', '.join(SUFFIXES)}.",
            )
        values = self._upright(read_depth_file(path, png_scale=self._png_scale), photo, path)
        if self.kind == PriorKind.METRIC:
            values = np.where(values > 0, values, np.nan)
        height, width = values.shape
        xy = input_pixels(view.camera, photo) * [width / photo.width, height / photo.height]
        return Prior(
            values=sample_map(values, xy),
            kind=self.kind,
            in_metres=self.kind == PriorKind.METRIC,
        )

    def _upright(
        self, values: NDArray[np.float32], photo: InputPhoto, path: Path
    ) -> NDArray[np.float32]:
        if _same_aspect(values.shape, photo):
            return values
        turned = turn_upright(values, photo.orientation)
        if _same_aspect(turned.shape, photo):
            return np.asarray(turned, dtype=np.float32)
        raise InputError(
            f"the map is {values.shape[1]}x{values.shape[0]}, its photo "
            f"{photo.width}x{photo.height}: another shape.",
            subject=path,
            action="Give maps of the whole photo, at any resolution.",
        )


def _same_aspect(shape: tuple[int, ...], photo: InputPhoto) -> bool:
    """Whether the shapes agree, but for what rounding a size can do."""
    height, width = shape
    rounding = 1 / min(height, width)
    return abs(width * photo.height / (height * photo.width) - 1) <= _SAME_ASPECT + rounding
