"""Picture files: photos and masks. What arrives from outside goes through the `prepare` stage
first; depth as pictures to look at is in `colors`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.geometry.grid import block_means, strips
from refdepth.types.scene import PosedImage, View

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no whole picture, or an enormous one."""


def load_photo(view: View) -> PosedImage:
    """Reads a view's photo (and mask).

    Raises `InputError` when it cannot be read or has another size than the camera.
    """
    return PosedImage(
        camera=view.camera,
        cam_from_world=view.cam_from_world,
        image=load_rgb(view),
        mask=load_mask(view),
    )


def load_rgb(view: View) -> NDArray[np.uint8]:
    """A view's photo, RGB uint8 (height, width, 3), block means where the view is reduced.

    Raises `InputError` when it cannot be read or has another size than the camera.
    """
    image = read_rgb(view.image_path)
    if not _fits(view, image):
        raise InputError(
            f"photo is {_size(view, image)}, its camera {view.camera.width}x{view.camera.height}.",
            subject=view.image_path,
            action="Give the pictures that belong to the model.",
        )
    if view.reduction == 1:
        return image
    parts = (image[rows].astype(np.float32) for rows in strips(len(image), view.reduction))
    means = (block_means(part, view.reduction) for part in parts)
    return np.concatenate([np.rint(part).astype(np.uint8) for part in means])


def load_mask(view: View) -> NDArray[np.bool_] | None:
    """Where a view's photo may be used (height, width); None where it has no mask.

    Raises `InputError` when it cannot be read or has another size than the camera.
    """
    if view.mask_path is None:
        return None
    mask = np.asarray(_open(view.mask_path, "L")) > 0
    if not _fits(view, mask):
        raise InputError(
            f"mask is {_size(view, mask)}, its photo {view.camera.width}x{view.camera.height}.",
            subject=view.mask_path,
            action="Masks must have the size of their photo.",
        )
    if view.reduction == 1:
        return mask
    return block_means(mask.astype(np.float32), view.reduction) > 0.999


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """RGB, uint8 (height, width, 3). Raises `InputError` when it cannot be read."""
    return np.asarray(_open(path, "RGB"))


def read_thumbnail(path: Path, longest_px: int) -> NDArray[np.uint8] | None:
    """The photo with its longer side reduced to `longest_px`, RGB (height, width, 3); None when it
    cannot be read."""
    try:
        with Image.open(path) as stored:
            stored.draft("RGB", (longest_px, longest_px))
            picture = stored.convert("RGB")
    except _UNREADABLE:
        return None
    picture.thumbnail((longest_px, longest_px))
    return np.asarray(picture)


def _reduced_shape(view: View, picture: NDArray[np.generic]) -> tuple[int, ...]:
    return tuple(-(-side // view.reduction) for side in picture.shape[:2])


def _fits(view: View, picture: NDArray[np.generic]) -> bool:
    return _reduced_shape(view, picture) == view.camera.shape


def _size(view: View, picture: NDArray[np.generic]) -> str:
    height, width = _reduced_shape(view, picture)
    return f"{width}x{height}"


def _open(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            if picture.mode != mode:
                return picture.convert(mode)
            picture.load()  # `convert` would copy it
            return picture
    except _UNREADABLE as error:
        raise InputError(f"cannot be read as a picture ({error}).", subject=path) from error
