"""One photo of any kind made into an upright 8-bit RGB picture that every later stage can read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from refdepth.ingest.decoding import UprightPicture, read_upright, shrunk, turned
from refdepth.ingest.discovery import readable
from refdepth.ingest.exif import GpsPosition
from refdepth.ingest.panoramas import Face
from refdepth.ingest.saving import save_jpeg, save_png
from refdepth.ingest.settings import PrepareSettings


@dataclass(frozen=True, kw_only=True)
class PanoramaFace:
    """Which part of which panorama a prepared picture is."""

    panorama: str
    """Path of the panorama (or `video#frame`) relative to the input folder."""
    face: Face
    stored_width: int
    """Width of the panorama as it is stored, before orientation, pixels."""
    stored_height: int
    """Height of the panorama as it is stored, pixels."""
    orientation: int
    """EXIF orientation that was applied to the panorama."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the panorama after its orientation is applied, pixels."""
        return turned(self.stored_width, self.stored_height, self.orientation)


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
    face: PanoramaFace | None = None
    """Of a face of a panorama: where it is from. It counts as stored as it was cut, upright, and
    its `focal_px` is exact."""
    warnings: tuple[str, ...] = ()
    """What a user should know about this photo."""

    @property
    def given(self) -> str:
        """Path of the photo, or of the panorama that it is a face of, in the input folder."""
        return self.original if self.face is None else self.face.panorama

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the original after its orientation is applied, before shrinking,
        pixels."""
        return turned(self.stored_width, self.stored_height, self.orientation)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> PreparedPhoto:
        """The inverse of `to_dict`."""
        position, face = row.get("position"), row.get("face")
        return cls(
            **{
                **row,
                "warnings": tuple(row.get("warnings", ())),
                "position": None if position is None else GpsPosition(**position),
                "face": None
                if face is None
                else PanoramaFace(**{**face, "face": Face(face["face"])}),
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
    original = readable(path.name) if original is None else original
    return write_photo(
        read_upright(path, settings), destination, settings, original, mask_folder=mask_folder
    )


def write_photo(
    given: UprightPicture,
    destination: Path,
    settings: PrepareSettings,
    original: str,
    *,
    mask_folder: Path | None,
) -> PreparedPhoto:
    """The second half of `prepare_photo`: the picture that was read, as a file."""
    rgb = shrunk(given.rgb, settings.max_size)
    scale = max(rgb.size) / max(given.rgb.size)
    keep_file = given.whole_jpeg and given.orientation == 1 and scale == 1
    name = destination.name + (".jpg" if given.lossy else ".png")
    if keep_file:
        _write_bytes(destination.with_name(name), given.content)
    elif given.lossy:
        save_jpeg(rgb, destination.with_name(name), given.source, given.orientation)
    else:
        save_png(rgb, destination.with_name(name))
    mask_name = None
    if given.opaque is not None and mask_folder is not None:
        mask_name = f"{name}.png"
        mask = given.opaque.resize(rgb.size, Image.Resampling.NEAREST)
        save_png(mask, mask_folder / mask_name)
    focal_px = given.hint.focal_px
    return replace(
        describe_photo(given, original, name),
        width=rgb.width,
        height=rgb.height,
        focal_px=None if focal_px is None else focal_px * scale,
        pixel_hash=hash_pixels(rgb),
        copied=keep_file,
        mask=mask_name,
    )


def describe_photo(given: UprightPicture, original: str, name: str) -> PreparedPhoto:
    """The row of a picture called `name` that is as large as it was read, but for its pixels."""
    stored_width, stored_height = given.stored_size
    return PreparedPhoto(
        name=name,
        original=original,
        width=given.rgb.width,
        height=given.rgb.height,
        stored_width=stored_width,
        stored_height=stored_height,
        orientation=given.orientation,
        focal_px=given.hint.focal_px,
        camera_key=given.hint.key,
        position=given.position,
        content_hash=hashlib.sha256(given.content).hexdigest(),
        warnings=given.notes,
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


def hash_pixels(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels."""
    digest = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
