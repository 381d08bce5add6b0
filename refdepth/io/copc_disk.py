"""COPC on a disk that fills: copclib ends the process there, and so do mapped files that have no
place; here that is an `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refdepth.writing import refused

_BLOCK = 1 << 22
_NO_ALLOCATION = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""How file systems say that they cannot allocate ahead."""
_EXTENDED, _EXTENDED_RECORDS = 235, struct.Struct("<QI")
"""Where a LAS 1.4 header has offset and number of the extended records."""
_RECORD, _LENGTH = 60, 20
"""Bytes of an extended record's own, and where among them its length is (u64)."""


@contextmanager
def writing(copclib: Any, path: Path, config: Any) -> Iterator[Any]:
    """A `copclib.FileWriter`, closed when the block ends well; its file is whole then.

    Raises `OSError` where the disk refuses: copclib says something else of it, or nothing.
    """
    writer = copclib.FileWriter(str(path), config)
    try:
        yield writer
        writer.Close()
    except BaseException as error:
        # Its destructor would try to close the file again, and end the process where that fails.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(writer))
        if isinstance(error, RuntimeError):
            raise refused(path, error) from error
        raise
    size, end = path.stat().st_size, _end_of(path)
    if size < end:
        raise refused(path, RuntimeError(f"{size} bytes are there, of {end}"))


def allocate(path: Path, size: int) -> None:
    """Makes a file of `size` bytes that have their place on the disk, so that it can be mapped.
    Raises `OSError` where there is not as much."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in _NO_ALLOCATION:
                    raise
        for start in range(0, size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - start)))


def _end_of(path: Path) -> int:
    """Where a COPC file ends by its own account, which is with its extended records; beyond any end
    where its header was never written."""
    with path.open("rb") as file:

        def read(at: int, what: struct.Struct) -> tuple[int, ...]:
            file.seek(at)
            return what.unpack(file.read(what.size).ljust(what.size, b"\0"))

        end, count = read(_EXTENDED, _EXTENDED_RECORDS)
        for _ in range(count):
            end += _RECORD + read(end + _LENGTH, struct.Struct("<Q"))[0]
    return end or 1 << 63
