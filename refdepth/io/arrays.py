"""Arrays in files, NumPy's own or pictures, read without trusting them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError

_MAX_VALUES = 1 << 28


def load_array(file: IO[bytes]) -> NDArray[Any]:
    """An .npy stream; its header is checked before anything is allocated. Raises `ValueError` for
    Python objects and for what is too large."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy format {version} is not supported")
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if np.prod(shape, dtype=np.float64) > _MAX_VALUES:
        raise ValueError(f"an array of {shape} is too large")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def load_archive(path: Path, key: str) -> NDArray[Any]:
    """The array called `key` of an .npz file, or its only one. Raises `ValueError` where there is
    neither."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in names and len(names) != 1:
            raise ValueError(f"it holds {', '.join(names) or 'nothing'}, no array named {key!r}")
        with archive.open(archive.namelist()[names.index(key) if key in names else 0]) as file:
            return load_array(file)


def read_values(
    path: Path, key: str, picture: Callable[[Path], NDArray[Any]], *, what: str
) -> NDArray[Any]:
    """The array in a file by its suffix: an `.npy`, an `.npz` (`key`, or its only array), or what
    `picture` reads of any other. Raises `InputError` that says `what` the file cannot be read as.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return load_array(file)
        if path.suffix.lower() == ".npz":
            return load_archive(path, key)
        return picture(path)
    except Exception as error:
        # Damaged files make the parsers raise anything: zlib.error, TokenError, TypeError, ...
        raise InputError(
            f"cannot be read as a {what} ({error}).",
            subject=path,
            action="Give the file again, or leave it out.",
        ) from error
