"""The user's masks, brought into the grid of the prepared photos. Zero means: do not use."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest.decoding import open_picture, turned, upright
from refdepth.ingest.panoramas import cut_mask
from refdepth.ingest.photos import PreparedPhoto
from refdepth.ingest.saving import save_png

SUFFIXES = (".png",)
"""Files that are masks; `NameTable.files` finds each photo's."""


@dataclass(frozen=True, kw_only=True)
class PreparedMask:
    """A mask in the grid of its prepared photo."""

    photo: str
    """Name of the prepared photo; the mask is `NAME.png` in the mask folder."""
    used_share: float
    """Share of the photo that may be used."""
    warning: str | None = None
    """What a user should know about this mask."""


def prepare_mask(path: Path, photo: PreparedPhoto, destination: Path) -> PreparedMask:
    """Turns and shrinks the mask `path` with its photo and writes it as 0 or 255 to
    `destination`/NAME.png; where one is there already (from the photo's transparency), a pixel is
    used only if both allow it.

    Raises `InputError` when it cannot be read or does not have the size of its photo.
    """
    usable = _read_mask(
        path, photo.original, (photo.stored_width, photo.stored_height), photo.orientation
    )
    usable = usable.resize((photo.width, photo.height), Image.Resampling.NEAREST)
    return _write_mask(usable, photo, destination)


def prepare_panorama_mask(
    path: Path, faces: Sequence[PreparedPhoto], destination: Path
) -> list[PreparedMask]:
    """The same of a panorama's mask, which is cut as the panorama was, into the masks of its
    `faces`. Raises `InputError` when it cannot be read or does not have the panorama's size."""
    whole = faces[0].face
    assert whole is not None
    stored = whole.stored_width, whole.stored_height
    pixels = np.asarray(_read_mask(path, whole.panorama, stored, whole.orientation))
    return [
        _write_mask(Image.fromarray(cut_mask(pixels, row.face.face, row.width)), row, destination)
        for row in faces
        if row.face is not None
    ]


def _read_mask(path: Path, original: str, stored: tuple[int, int], orientation: int) -> Image.Image:
    """A mask of the picture `original`, upright, 0 or 255."""
    try:
        with open_picture(path) as picture, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if picture.size not in (stored, turned(*stored, orientation)):
                raise InputError(
                    f"mask is {picture.width}x{picture.height}, its photo "
                    f"{stored[0]}x{stored[1]} ({original}).",
                    subject=path,
                    action="Masks must have the size of their photo.",
                )
            pixels = np.asarray(picture) if picture.mode[0] in "IF1" else _to_grey(picture)
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they meet
        raise InputError(f"mask is damaged or cut short ({error}).", subject=path) from error
    usable = Image.fromarray((pixels > 0).astype(np.uint8) * 255)
    return upright(usable, orientation) if usable.size == stored else usable


def _write_mask(usable: Image.Image, photo: PreparedPhoto, destination: Path) -> PreparedMask:
    target = destination / f"{photo.name}.png"
    if target.exists():
        with Image.open(target) as before:
            usable = Image.fromarray(np.minimum(np.asarray(usable), np.asarray(before)))
    save_png(usable, target)
    share = float((np.asarray(usable) > 0).mean())
    empty = share == 0 and photo.face is None  # a face with nothing in it is nothing unusual
    warning = "the mask leaves nothing of the photo" if empty else None
    return PreparedMask(photo=photo.name, used_share=share, warning=warning)


def _to_grey(picture: Image.Image) -> np.ndarray:
    """Brightness; palettes go through their colours, transparency is ignored."""
    return np.asarray(picture.convert("RGB")).max(axis=2)
