"""Files that are written whole or refused with a reason, whatever library writes them."""

from __future__ import annotations

import errno
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST_FREE = 1 << 20
"""Bytes: a disk with less left is full."""


def save_picture(picture: Image, path: Path, **options: Any) -> None:
    """What `picture.save` writes, in the format of the suffix unless `options` say. By itself
    Pillow takes a file for whole whose last bytes have found no place. Raises `OSError`."""
    from PIL.Image import registered_extensions

    buffer = io.BytesIO()
    picture.save(buffer, **{"format": registered_extensions().get(path.suffix.lower()), **options})
    path.write_bytes(buffer.getbuffer())


def save_array(path: Path, values: NDArray[Any]) -> None:
    """What `np.save` writes, with an `OSError` that says why it cannot be."""
    values = np.ascontiguousarray(values).reshape(np.shape(values))
    header = np.lib.format.header_data_from_array_1_0(values)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(values.reshape(-1).view(np.uint8).data)


def refused(path: Path, error: Exception) -> OSError:
    """What the system must have said where a library says in words of its own that it cannot write
    `path`: that the disk is full, as far as one can see."""
    full = shutil.disk_usage(path.parent).free < _LEAST_FREE
    return OSError(errno.ENOSPC if full else errno.EIO, str(error).strip(), str(path))
