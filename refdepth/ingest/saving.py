"""Prepared pictures as files: each beside its place first, and renamed into it; no metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from refdepth.writing import save_picture

_PNG_COMPRESSION = 3
_BLOCK_PX = 16
"""Pictures whose sides are multiples of it have the same blocks after any quarter turn."""
_QUALITY = 98
_420 = 2
"""Pillow's name for colours at half the resolution, both ways."""


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, without loss."""
    _save(picture, path, format="PNG", compress_level=_PNG_COMPRESSION)


def save_jpeg(picture: Image.Image, path: Path, original: Image.Image, orientation: int) -> None:
    """Writes a JPEG of a picture that came, by EXIF `orientation` and maybe smaller, from a file
    that was compressed with loss already: of about the size of that one.

    A whole JPEG is compressed as the original was, which after a turn gives its coefficients once
    more (luma moves by 0.2 to 0.3 grey levels, as rounding does); all else at quality 98 (0.3 to
    0.8 grey levels, a quarter more bytes).
    """
    options: dict[str, Any] = {"quality": _QUALITY, "subsampling": _420}
    whole = picture.size in (original.size, original.size[::-1])
    tables = getattr(original, "quantization", None)
    if tables and whole and not any(side % _BLOCK_PX for side in picture.size):
        turned = orientation >= 5
        options = {
            "qtables": [_transposed(table) if turned else table for table in tables.values()],
            "subsampling": _sampling(original, turned),
        }
    _save(picture, path, format="JPEG", **options)


def _sampling(original: Image.Image, turned: bool) -> int:
    """The original's, where Pillow knows it, also across: else colours in full."""
    found = JpegImagePlugin.get_sampling(original)
    return int(found) if found == _420 or (found >= 0 and not turned) else 0


def _transposed(table: list[int]) -> list[int]:
    return np.reshape(table, (8, 8)).T.ravel().tolist()


def _save(picture: Image.Image, path: Path, **options: Any) -> None:
    partial = path.with_name(f".{path.name}.partial")
    bare = picture.copy()
    bare.info = {}
    save_picture(bare, partial, **options)
    partial.replace(path)
