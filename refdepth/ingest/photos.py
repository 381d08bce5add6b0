"""One photo of any kind made into an upright 8-bit RGB picture that every later stage can read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from refdepth.errors import InputError
from refdepth.ingest.discovery import readable
from refdepth.ingest.exif import (
    GpsPosition,
    orientation_of,
    read_camera_hint,
    read_exif,
    read_position,
)
from refdepth.ingest.saving import save_jpeg, save_png
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
class PreparedPhoto:
    """A row of the table that maps prepared pictures to what was given."""

    name: str
    """File name of the prepared picture."""
    original: str
    """Path of the photo (or `video#frame`) relative to the input folder."""
    width: int
    """Width of the prepared, upright picture, pixels."""
    height: int
    """Height of the prepared, upright picture, pixels."""
    stored_width: int
    """Width of the original as it is stored, before orientation and shrinking, pixels."""
    stored_height: int
    """Height of the original as it is stored, pixels."""
    orientation: int = 1
    """EXIF orientation that was applied, 1 to 8."""
    focal_px: float | None = None
    """Focal length from EXIF, in prepared pixels."""
    camera_key: str = ""
    """Equal for photos whose EXIF says that they share intrinsics; empty where it says nothing."""
    position: GpsPosition | None = None
    """Where EXIF says that the photo was taken."""
    content_hash: str = ""
    """SHA-256 of the original file."""
    pixel_hash: str = ""
    """SHA-256 of the prepared pixels and their size."""
    copied: bool = False
    """Whether the original file was kept byte for byte."""
    mask: str | None = None
    """File name of the mask that comes from the photo's own transparency."""
    sequence: str = ""
    """The video that the picture is a frame of."""
    frame: dict[str, float] | None = None
    """Of a video frame: number (`index`), `time_s`, `sharpness` and image `motion` up to it."""
    warnings: tuple[str, ...] = ()
    """What a user should know about this photo."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the original after its orientation is applied, before shrinking,
        pixels."""
        size = self.stored_width, self.stored_height
        return (size[1], size[0]) if self.orientation >= 5 else size

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> PreparedPhoto:
        """The inverse of `to_dict`."""
        position = row.get("position")
        return cls(
            **{
                **row,
                "warnings": tuple(row.get("warnings", ())),
                "position": None if position is None else GpsPosition(**position),
            }
        )


def prepare_photo(
    path: Path,
    destination: Path,
    settings: PrepareSettings | None = None,
    *,
    original: str | None = None,
    mask_folder: Path | None = None,
) -> PreparedPhoto:
    """Makes `path` an upright 8-bit RGB picture at `destination` (a path without suffix).

    A JPEG that is one already is copied byte for byte; what was compressed with loss and is turned
    or made smaller is saved as JPEG, of about the size it had; everything else as PNG without loss.
    16-bit pictures are scaled, not clipped. Where `mask_folder` is given, a photo's
    transparent pixels become the mask `NAME.png` there. `original` is the name for the table.

    Raises `InputError`, saying why, when the photo cannot be used.
    """
    settings = settings or PrepareSettings()
    notes: list[str] = []
    with _open(path, settings) as picture:
        stored_width, stored_height = picture.size
        rgb, opaque = _decode(path, picture, alpha=settings.alpha)
        exif = read_exif(picture)
        orientation = orientation_of(exif) if settings.upright else 1
        hint = read_camera_hint(exif, stored_width, stored_height)
        position = read_position(exif)
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format not in _ONE_PICTURE_FORMATS:
            notes.append(f"holds {frames} pictures; the first is used")
        rgb = upright(rgb, orientation)
        longest = max(rgb.size)
        rgb = shrunk(rgb, settings.max_size)
        scale = max(rgb.size) / longest
        jpeg = picture.format in ("JPEG", "MPO") and picture.mode == "RGB"
        keep_file = jpeg and orientation == 1 and scale == 1
        lossy = jpeg or picture.format in _LOSSY_FORMATS
        name = destination.name + (".jpg" if lossy else ".png")
        content = _read_bytes(path)
        if keep_file:
            _write_bytes(destination.with_name(name), content)
        elif lossy:
            save_jpeg(rgb, destination.with_name(name), picture, orientation)
        else:
            save_png(rgb, destination.with_name(name))
    if hint.warning:
        notes.append(hint.warning)
    mask_name = None
    if opaque is not None and mask_folder is not None:
        mask_name = f"{name}.png"
        mask = upright(opaque, orientation).resize(rgb.size, Image.Resampling.NEAREST)
        save_png(mask, mask_folder / mask_name)
    return PreparedPhoto(
        name=name,
        original=readable(path.name) if original is None else original,
        width=rgb.width,
        height=rgb.height,
        stored_width=stored_width,
        stored_height=stored_height,
        orientation=orientation,
        focal_px=None if hint.focal_px is None else hint.focal_px * scale,
        camera_key=hint.key,
        position=position,
        content_hash=hashlib.sha256(content).hexdigest(),
        pixel_hash=hash_pixels(rgb),
        copied=keep_file,
        mask=mask_name,
        warnings=tuple(notes),
    )


def find_duplicates(photos: Sequence[PreparedPhoto]) -> dict[str, str]:
    """Names of photos whose file or pixels equal an earlier one's, with the earlier one's name."""
    first: dict[str, str] = {}
    duplicates = {}
    for photo in photos:
        keys = [key for key in (photo.content_hash, photo.pixel_hash) if key]
        twin = next((first[key] for key in keys if key in first), None)
        if twin is not None:
            duplicates[photo.name] = twin
        for key in keys:
            first.setdefault(key, twin or photo.name)
    return duplicates


def shrunk(picture: Image.Image, max_size: int | None) -> Image.Image:
    """`picture`, made smaller where its longest side exceeds `max_size` pixels."""
    scale = (max_size or max(picture.size)) / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def hash_pixels(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels."""
    digest = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}).", subject=path) from error


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


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
    except (OSError, ValueError, SyntaxError, EOFError) as error:
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
