"""Equirectangular 360 degree pictures: telling them from photos, and cutting them into the faces of
a cube, which every later stage takes for ordinary photos.

Axes of a panorama as the cameras': x right, y down, z towards its middle. Longitude grows to the
right over its width, from -180 degrees, latitude downwards over its height, from -90 degrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest.exif import CameraHint
from refdepth.ingest.settings import Panoramas

Array = NDArray[np.float64]

FACE_FOV_DEG = 94.0
"""Field of view of a face. Two degrees more on each side than a cube's: what lies on its edges is
whole in one of the faces, and faces need not end where features and windows begin."""
EQUIRECTANGULAR = "equirectangular"
"""What metadata call the projection of a panorama."""
_SAME_RATIO_PX = 2
"""By how much a width may miss twice the height: odd sizes, and sides cut to blocks."""
_GPANO = re.compile(rb"GPano:(\w+)(?:>|\s*=\s*[\"'])\s*(\w+)")
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_STRIP = 256


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What a file says of how its picture is projected."""

    name: str
    """In lower case."""
    whole: bool
    """Whether it shows all of its sphere or plane, and is no part cut out of it."""


class Face(StrEnum):
    """A face of the cube around a panorama's centre."""

    FRONT = "front"
    RIGHT = "right"
    BACK = "back"
    LEFT = "left"
    UP = "up"
    DOWN = "down"


FACE_FROM_PANORAMA = MappingProxyType(
    {
        Face.FRONT: np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
        Face.RIGHT: np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]),
        Face.BACK: np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
        Face.LEFT: np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        Face.UP: np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        Face.DOWN: np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    }
)
"""Rotations (3, 3); up and down have the front at their lower and upper side."""


def is_panorama(
    picture: Image.Image, stated: Projection | None, hint: CameraHint, wanted: Panoramas
) -> bool:
    """Whether an upright, decoded picture is a whole 360 degree panorama.

    `auto` believes what is `stated` by its file. Where that is nothing, a panorama is what is twice
    as wide as high, has no focal length in EXIF and left and right sides that meet.
    Raises `InputError` for a part of a panorama, and for one that is not twice as wide as high.
    """
    if wanted is Panoramas.NO:
        return False
    twice = abs(picture.width - 2 * picture.height) <= _SAME_RATIO_PX
    size = f"{picture.width}x{picture.height}"
    if wanted is Panoramas.YES:
        if not twice:
            raise InputError(
                f"{size} is no 360 degree panorama, which is twice as wide as high"
                " (prepare.panoramas is yes).",
            )
        return True
    if stated is None:
        return twice and hint.focal_px is None and _sides_meet(picture)
    if stated.name != EQUIRECTANGULAR:
        return False
    if not (twice and stated.whole):
        raise InputError(
            f"its metadata says equirectangular, but {size} is a part of a panorama: a whole one"
            " has all 360 degrees and is twice as wide as high (with prepare.panoramas=no it is"
            " taken for a photo).",
        )
    return True


def stated_projection(picture: Image.Image) -> Projection | None:
    """What the GPano fields of a picture's XMP metadata say; None where they say nothing."""
    for key in _XMP_KEYS:
        block = picture.info.get(key)
        text = block.encode() if isinstance(block, str) else block
        fields = dict(_GPANO.findall(text)) if isinstance(text, bytes) else {}
        if name := fields.get(b"ProjectionType"):
            whole = all(
                fields.get(f"CroppedAreaImage{side}Pixels".encode(), full) == full
                for side in ("Width", "Height")
                if (full := fields.get(f"FullPano{side}Pixels".encode()))
            )
            return Projection(name=name.decode("ascii", "replace").lower(), whole=whole)
    return None


def face_size(width: int, max_size: int | None) -> int:
    """Side of the faces of a panorama of so many pixels' width: as many pixels a radian in their
    middle as the panorama has on its horizon, but no longer than `max_size`."""
    side = round(width / math.pi * math.tan(math.radians(FACE_FOV_DEG / 2)))
    return min(side, max_size or side)


def face_focal_px(side: int) -> float:
    """Focal length of a face with sides of so many pixels."""
    return side / 2 / math.tan(math.radians(FACE_FOV_DEG / 2))


def panorama_pixels(face: Face, side: int, size: tuple[int, int], xy: Array) -> Array:
    """Where pixels `xy` (..., 2) of a face lie in its panorama of `size` (width, height), pixels;
    centres of pixels are at 0.5 in both."""
    offset = (np.asarray(xy, np.float64) - side / 2) / face_focal_px(side)
    ray = np.concatenate([offset, np.ones_like(offset[..., :1])], axis=-1)
    x, y, z = np.moveaxis(ray @ FACE_FROM_PANORAMA[face], -1, 0)
    longitude, latitude = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    width, height = size
    return np.stack(
        [width * (0.5 + longitude / math.tau), height * (0.5 + latitude / math.pi)], axis=-1
    )


def cut_faces(panorama: Image.Image, side: int) -> Iterator[tuple[Face, Image.Image]]:
    """The faces (`side` x `side`) of an RGB panorama, resampled with a bicubic window; one that has
    more pixels than they take is made smaller first."""
    from refdepth.ingest.resampling_kernels import sample_sphere

    width = round(face_focal_px(side) * math.tau)
    if width < panorama.width:
        panorama = panorama.resize((width, width // 2), Image.Resampling.LANCZOS)
    pixels = np.asarray(panorama)
    for face in Face:
        out = np.empty((side, side, 3), np.uint8)
        for rows, xy in _strips(face, side, panorama.size):
            sample_sphere(pixels, xy, out[rows])
        yield face, Image.fromarray(out)


def cut_mask(mask: NDArray[Any], face: Face, side: int) -> NDArray[Any]:
    """The part (`side`, `side`) of a panorama's mask (H, W) that a face sees, by nearest pixels."""
    height, width = mask.shape
    out = np.empty((side, side), mask.dtype)
    for rows, xy in _strips(face, side, (width, height)):
        column, row = np.moveaxis(np.floor(xy).astype(np.intp), -1, 0)
        out[rows] = mask[np.clip(row, 0, height - 1), column % width]
    return out


def _strips(face: Face, side: int, size: tuple[int, int]) -> Iterator[tuple[slice, Array]]:
    """Rows of a face and where their pixels lie in its panorama (rows, side, 2)."""
    for top in range(0, side, _STRIP):
        rows = slice(top, min(top + _STRIP, side))
        x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(rows.start, rows.stop) + 0.5)
        yield rows, panorama_pixels(face, side, size, np.stack([x, y], axis=-1))


def _sides_meet(picture: Image.Image) -> bool:
    """Whether the last column of a picture goes on in its first: whether they differ rather as
    columns side by side do than as columns half a picture apart (told apart at the geometric mean,
    and never in a blank picture)."""
    grey = np.asarray(picture.convert("L"), np.float32)
    half = picture.width // 2
    beside = float(np.abs(grey[:, 1:] - grey[:, :-1]).mean())
    apart = float(np.abs(grey[:, half:] - grey[:, :-half]).mean())
    return float(np.abs(grey[:, 0] - grey[:, -1]).mean()) < math.sqrt(beside * apart)
