"""Small pictures as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

WIDTH_PX = 400
"""Width of a picture in the report."""
THUMBNAIL_PX = 112
"""Width of a photo in the list of views."""
_QUALITY = 80


def step_for(width: int) -> int:
    """Every how many pixels a map of `width` is sampled for the report."""
    return max(1, round(width / WIDTH_PX))


def jpeg(picture: NDArray[np.uint8]) -> Markup:
    """A picture (height, width, 3) as a JPEG data URI."""
    return _encode(Image.fromarray(picture), "JPEG", quality=_QUALITY, optimize=True)


def png(picture: NDArray[np.uint8]) -> Markup:
    """A picture (height, width, 4) as a PNG data URI."""
    return _encode(Image.fromarray(picture), "PNG", optimize=True)


def photo(path: Path, *widths: int) -> list[Markup]:
    """The photo, reduced to each of `widths`, the largest first, as JPEG data URIs; none when it
    cannot be read."""
    try:
        with Image.open(path) as stored:
            stored.draft("RGB", (widths[0], widths[0]))
            picture = stored.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    sizes = [(width, max(1, round(picture.height * width / picture.width))) for width in widths]
    return [
        _encode(picture.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=_QUALITY)
        for size in sizes
    ]


def _encode(picture: Image.Image, kind: str, **options: Any) -> Markup:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    text = base64.b64encode(buffer.getvalue()).decode()
    # Base64 holds nothing that HTML would take for markup.
    return Markup(f"data:image/{kind.lower()};base64,{text}")
