"""NumPy's own files, read without trusting them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

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
