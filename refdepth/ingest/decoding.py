"""Opening and decoding pictures of any kind: upright, 8-bit RGB, with what their metadata say."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from refdepth.errors import InputError
from refdepth.ingest.exif import (
    CameraHint,
    GpsPosition,
    orientation_of,
    read_camera_hint,
    read_exif,
    read_position,
)
from refdepth.ingest.settings import Alpha, PrepareSettings

_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_ONE_PICTURE_FORMATS = ("MPO", "HEIF", "AVIF")
_LOSSY_FORMATS = ("HEIF", "AVIF")
LEAST_SIDE_PX = 32
"""Photos whose shortest side is smaller are skipped."""
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class UprightPicture:
    """A picture that was read, turned upright, at its full size."""

    rgb: Image.Image
    """8-bit RGB."""
    opaque: Image.Image | None
    """255 where it is not fully transparent, else 0; None where none of it is."""
    source: Image.Image
    """The opened file."""
    stored_size: tuple[int, int]
    """Width and height as the file holds it, before its orientation is applied, pixels."""
    content: bytes
    """The file."""
    orientation: int
    """EXIF orientation (1 to 8) that was applied."""
    hint: CameraHint
    position: GpsPosition | None
    whole_jpeg: bool
    """Whether the file is a JPEG that needs no conversion."""
    lossy: bool
    """Whether it was compressed with loss."""
    notes: tuple[str, ...]
    """What a user should know."""


def read_upright(path: Path, settings: PrepareSettings) -> UprightPicture:
    """Reads a picture of any supported kind. Raises `InputError`, saying why, when it cannot be
    used."""
    notes: list[str] = []
    with _open(path, settings) as picture:
        said = orientation_of(read_exif(picture))
        rgb, opaque = _decode(path, picture, alpha=settings.alpha)
        exif = read_exif(picture)
        if orientation_of(exif) != said:  # Pillow turns TIFFs while it decodes them
            rgb = upright(rgb, turned_back(said))
            opaque = None if opaque is None else upright(opaque, turned_back(said))
        orientation = said if settings.upright else 1
        hint = read_camera_hint(exif, *picture.size)
        position = read_position(exif)
        jpeg = picture.format in ("JPEG", "MPO") and picture.mode == "RGB"
        content = _read_bytes(path)
        if picture.format not in _ONE_PICTURE_FORMATS:
            notes += _on_further_pictures(content)
    if hint.warning:
        notes.append(hint.warning)
    return UprightPicture(
        rgb=upright(rgb, orientation),
        opaque=None if opaque is None else upright(opaque, orientation),
        source=picture,
        stored_size=rgb.size,
        content=content,
        orientation=orientation,
        hint=hint,
        position=position,
        whole_jpeg=jpeg,
        lossy=jpeg or picture.format in _LOSSY_FORMATS,
        notes=tuple(notes),
    )


def _on_further_pictures(content: bytes) -> list[str]:
    """What a user should know of a file that holds more than its first picture."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as picture:
            frames = getattr(picture, "n_frames", 1)
    except Exception:  # counting reads them all, and damaged ones raise whatever it meets
        return ["holds further pictures, which are damaged; the first is used"]
    return [f"holds {frames} pictures; the first is used"] if frames > 1 else []


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}).", subject=path) from error


def open_picture(path: Path) -> Image.Image:
    """Opens a picture of any supported kind without decoding it.

    Raises `InputError` when it is none or is too large for Pillow.
    """
    if path.suffix.lower() in _HEIF_SUFFIXES:
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        if path.stat().st_size == 0:
            raise InputError("the file is empty.", subject=path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limits decide
            return Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"refused: {error}", subject=path) from error
    except UnidentifiedImageError as error:
        raise InputError("not a picture that can be read.", subject=path) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # parsers of damaged files raise whatever they meet
        raise InputError(f"cannot be read ({error}).", subject=path) from error


def _open(path: Path, settings: PrepareSettings) -> Image.Image:
    picture = open_picture(path)
    width, height = picture.size
    if width * height > settings.max_megapixels * 1e6:
        reason = (
            f"{width}x{height} pixels exceed the limit of {settings.max_megapixels:g} megapixels."
        )
    elif min(width, height) < LEAST_SIDE_PX:
        reason = f"{width}x{height} pixels are too few (shortest side under {LEAST_SIDE_PX})."
    else:
        return picture
    picture.close()
    raise InputError(reason, subject=path)


def _decode(
    path: Path, picture: Image.Image, *, alpha: Alpha
) -> tuple[Image.Image, Image.Image | None]:
    """The picture as 8-bit RGB, and where it is not fully transparent if any of it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
            if picture.mode == "F":
                raise InputError(
                    "floating-point pixels have no fixed range; convert it to 8 or 16 bit.",
                    subject=path,
                )
            if picture.mode.startswith("I"):
                return Image.fromarray(_grey_to_8_bit(np.asarray(picture), path)).convert(
                    "RGB"
                ), None
            opaque = None
            if alpha == Alpha.MASK and picture.has_transparency_data:
                visible = np.asarray(picture.convert("RGBA").getchannel("A")) > 0
                if not visible.all():
                    opaque = Image.fromarray(visible.astype(np.uint8) * 255)
            return picture.convert("RGB"), opaque
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("too large for the memory.", subject=path) from error
    except Exception as error:  # decoders of damaged files raise whatever they meet
        raise InputError(f"damaged or cut short ({error}).", subject=path) from error


def _grey_to_8_bit(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    if values.min() < 0 or values.max() > 65535:
        raise InputError("32-bit pixels; convert it to 8 or 16 bit.", subject=path)
    return np.round(values / 257.0).astype(np.uint8)


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """`picture` as it looks after EXIF `orientation` (1 to 8) is applied."""
    return picture if orientation == 1 else picture.transpose(_TRANSPOSE[orientation])


def turned_back(orientation: int) -> int:
    """The EXIF orientation that undoes `orientation`."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def turned(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height after EXIF `orientation` (1 to 8) is applied."""
    return (height, width) if orientation >= 5 else (width, height)


def shrunk(picture: Image.Image, max_size: int | None) -> Image.Image:
    """`picture`, made smaller where its longest side exceeds `max_size` pixels."""
    scale = (max_size or max(picture.size)) / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
