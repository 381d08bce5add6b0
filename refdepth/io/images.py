"""Picture files: photos and masks. What arrives from outside goes through the `prepare` stage
first; depth as pictures to look at is in `colors`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.types.scene import PosedImage, View

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no whole picture, or an enormous one."""


def load_photo(view: View) -> PosedImage:
    """Reads a view's photo (and mask).

    Raises `InputError` when it cannot be read or has another size than the camera.
    """
    image = read_rgb(view.image_path)
    if image.shape[:2] != view.camera.shape:
        raise InputError(
            f"photo is {image.shape[1]}x{image.shape[0]}, its camera "
            f"{view.camera.width}x{view.camera.height}.",
            subject=view.image_path,
            action="Give the pictures that belong to the model.",
        )
    return PosedImage(
        camera=view.camera,
        cam_from_world=view.cam_from_world,
        image=image,
        mask=load_mask(view),
    )


def load_mask(view: View) -> NDArray[np.bool_] | None:
    """Where a view's photo may be used (height, width); None where it has no mask.

    Raises `InputError` when it cannot be read or has another size than the camera.
    """
    return None if view.mask_path is None else read_mask(view.mask_path, view.camera.shape)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """RGB, uint8 (height, width, 3). Raises `InputError` when it cannot be read."""
    return np.asarray(_open(path, "RGB"))


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """True where the picture may be used (height, width). Raises `InputError` when the mask cannot
    be read or has another size."""
    mask = np.asarray(_open(path, "L")) > 0
    if mask.shape != shape:
        raise InputError(
            f"mask is {mask.shape[1]}x{mask.shape[0]}, its photo {shape[1]}x{shape[0]}.",
            subject=path,
            action="Masks must have the size of their photo.",
        )
    return mask


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


def _open(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert(mode)
    except _UNREADABLE as error:
        raise InputError(f"cannot be read as a picture ({error}).", subject=path) from error
