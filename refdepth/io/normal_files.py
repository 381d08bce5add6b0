"""Surface normals as files: `.npy`, `.npz`, 8-bit PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.io.arrays import read_values

SUFFIXES = (".npy", ".npz", ".png")
"""Readable formats. Where a map exists in several, the earlier is taken."""
_KEY = "normals"
_LEAST = 0.5
"""Length below which a vector is no normal: unknown, or a mixture."""


def read_normal_file(path: Path) -> NDArray[np.float32]:
    """Unit normals (height, width, 3) in camera axes: x right, y down, z forward, so that those of
    surfaces that are seen have z below 0, or nearly; 0 where unknown.

    An array holds them as they are, (height, width, 3); an `.npz` as `normals` or as its only
    array; a picture as level / 127.5 - 1, black where unknown. Raises `InputError` for files that
    cannot be read, are not three numbers a pixel, or mostly point away from the camera.
    """
    values = read_values(path, _KEY, _load_picture, what="normal map")
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape or values.dtype.kind != "f":
        raise InputError(
            f"is {values.dtype} {values.shape}, not three floating-point numbers a pixel.",
            subject=path,
            action="Give normals as (height, width, 3).",
        )
    found = unit(values.astype(np.float32))
    known = (found != 0).any(axis=2)
    if known.any() and (found[known, 2] > 0).mean() > 0.5:
        raise InputError(
            "most of its normals point away from the camera.",
            subject=path,
            action="Give them in camera axes (x right, y down, z forward), towards the camera.",
        )
    return found


def unit(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., 3) at unit length; 0 for those that are far shorter, or not finite."""
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > _LEAST, normals / length, 0).astype(np.float32)


def _load_picture(path: Path) -> NDArray[Any]:
    with Image.open(path, formats=("PNG",)) as picture:
        if picture.mode != "RGB":
            raise ValueError(f"its pixels are {picture.mode!r}, not 8-bit RGB")
        levels = np.asarray(picture)
    known = (levels != 0).any(axis=2, keepdims=True)
    return np.where(known, levels.astype(np.float32) / 127.5 - 1, 0)
