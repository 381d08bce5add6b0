"""The user's masks, brought into the grid of the prepared photos. Zero means: do not use."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest.photos import PreparedPhoto, open_picture, save_png, upright


@dataclass(frozen=True, kw_only=True)
class PreparedMask:
    """A mask in the grid of its prepared photo."""

    photo: str
    """Name of the prepared photo; the mask is `NAME.png` in the mask folder."""
    used_share: float
    """Share of the photo that may be used."""
    warning: str | None = None
    """What a user should know about this mask."""


def find_mask(folder: Path, photo: PreparedPhoto, photos: Sequence[PreparedPhoto]) -> Path | None:
    """The mask of `photo` in `folder`: `NAME.jpg.png` (as COLMAP) or `NAME.png`, in the same
    sub-folder as the photo, or at the top where no other photo has that name.

    Raises `InputError` when the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError("no such folder.", subject=folder, action="Give a folder of masks.")
    original = PurePosixPath(photo.original)
    if original.is_absolute() or ".." in original.parts:
        raise InputError("leaves the input folder.", subject=photo.original)
    with_suffix = original.with_name(original.name + ".png")
    without = original.with_suffix(".png")
    names = Counter(PurePosixPath(other.original).name for other in photos)
    stems = Counter(PurePosixPath(other.original).stem for other in photos)
    paths = Counter(_stem_path(other) for other in photos)
    choices = [str(with_suffix)]
    if paths[_stem_path(photo)] == 1:
        choices.append(str(without))
    if names[original.name] == 1:
        choices.append(with_suffix.name)
    if stems[original.stem] == 1:
        choices.append(without.name)
    for choice in (*choices, f"{photo.name}.png"):
        if (folder / choice).is_file():
            return folder / choice
    return None


def prepare_mask(path: Path, photo: PreparedPhoto, destination: Path) -> PreparedMask:
    """Turns and shrinks the mask `path` with its photo and writes it as 0 or 255 to
    `destination`/NAME.png; where one is there already (from the photo's transparency), a pixel is
    used only if both allow it.

    Raises `InputError` when it cannot be read or does not have the size of its photo.
    """
    try:
        with open_picture(path) as picture, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if picture.size not in (stored := _stored(photo), _turned(photo)):
                raise InputError(
                    f"mask is {picture.width}x{picture.height}, its photo "
                    f"{stored[0]}x{stored[1]} ({photo.original}).",
                    subject=path,
                    action="Masks must have the size of their photo.",
                )
            pixels = np.asarray(picture) if picture.mode[0] in "IF1" else _to_grey(picture)
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they meet
        raise InputError(f"mask is damaged or cut short ({error}).", subject=path) from error
    usable = Image.fromarray((pixels > 0).astype(np.uint8) * 255)
    if usable.size == stored:
        usable = upright(usable, photo.orientation)
    usable = usable.resize((photo.width, photo.height), Image.Resampling.NEAREST)
    target = destination / f"{photo.name}.png"
    if target.exists():
        with Image.open(target) as before:
            usable = Image.fromarray(np.minimum(np.asarray(usable), np.asarray(before)))
    save_png(usable, target)
    share = float((np.asarray(usable) > 0).mean())
    warning = "the mask leaves nothing of the photo" if share == 0 else None
    return PreparedMask(photo=photo.name, used_share=share, warning=warning)


def _to_grey(picture: Image.Image) -> np.ndarray:
    """Brightness; palettes go through their colours, transparency is ignored."""
    return np.asarray(picture.convert("RGB")).max(axis=2)


def _stored(photo: PreparedPhoto) -> tuple[int, int]:
    return photo.stored_width, photo.stored_height


def _turned(photo: PreparedPhoto) -> tuple[int, int]:
    """Size of the upright photo before it was shrunk."""
    width, height = _stored(photo)
    return (height, width) if photo.orientation >= 5 else (width, height)


def _stem_path(photo: PreparedPhoto) -> PurePosixPath:
    return PurePosixPath(photo.original).with_suffix("")
