"""Picture files: photos and masks. What arrives from outside goes through the `prepare` stage
first; depth as pictures to look at is in `colors`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no whole picture, or an enormous one."""


def read_rgb(path: Path) -> NDArray[np.float32]:
    """RGB in [0, 1], float32 (height, width, 3). Raises `InputError` when it cannot be read."""
    return np.asarray(_open(path, "RGB"), dtype=np.float32) / np.float32(255)


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
