"""Files that are either whole or absent, and what identifies their content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import ResourceError
from refdepth.io.json_text import to_json

TEMPORARY_PREFIX = ".tmp-"
"""Names that start so are unfinished; whoever owns the workspace may remove them."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""How a file system says that it has no space left."""
_SEAL = "sha256_of_content"
_NEXT_TO_NOTHING = 1 << 20
"""Bytes: a disk with less left is full for a photo."""


@contextmanager
def replacing(path: Path, *, size: int | None = None) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it into place when the block ends well.

    The folder must be there: made here, it would come back in place of a disk that is gone.
    Raises `ResourceError` when the file system refuses (full, read-only, gone); `size` in bytes,
    where known, tells how much space is needed.
    """
    # Of its own on every machine that works in the folder.
    token = secrets.token_hex(4)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{token}-{path.name[-100:]}")
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():  # somebody put a folder where the artifact belongs
            discard(path)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        discard(temporary)
        raise resource_error(error, path, size=size) from error
    except BaseException:
        discard(temporary)
        raise


def resource_error(error: OSError, path: Path, *, size: int | None = None) -> ResourceError:
    """What the file system refused, in words. `size`: bytes that were to be written."""
    if error.errno in FULL:
        facts = [] if size is None else [f"{size / 2**20:.1f} MiB needed"]
        folder = next((p for p in (path, *path.parents) if p.exists()), None)
        if folder is not None:
            facts.append(f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free")
        known = f" ({', '.join(facts)})" if facts else ""
        return ResourceError(
            f"no space left to write it{known}.",
            subject=path,
            action="Free some space, then run the same command again; finished work is kept.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            f"cannot be written ({os.strerror(error.errno or 0)}).",
            subject=path,
            action="Choose an output folder that you may write to, or change its permissions.",
        )
    return ResourceError(
        f"cannot be read or written ({error.strerror or error}).",
        subject=path,
        action="Check that the disk is still there, then run the same command again.",
    )


def disk_is_full(folder: Path) -> bool:
    """Whether next to nothing can be written into `folder`."""
    try:
        return shutil.disk_usage(folder).free < _NEXT_TO_NOTHING
    except OSError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented, strict JSON with sorted keys, atomically."""
    write_bytes(path, to_json(value, indent=1, sort_keys=True).encode() + b"\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content`, atomically."""
    with replacing(path, size=len(content)) as temporary:
        temporary.write_bytes(content)


def read_json(path: Path) -> Any | None:
    """The parsed file, or None when it is absent or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object with the hash of its content, atomically. What is not finite comes back
    as None."""
    plain = json.loads(to_json(value))
    write_json(path, {**plain, _SEAL: hash_json(plain)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` has written, or None when it is absent or has been changed since."""
    stored = read_json(path)
    if not isinstance(stored, dict):
        return None
    seal = stored.pop(_SEAL, None)
    return stored if seal == hash_json(stored) else None


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False
) -> None:
    """Writes an .npz, atomically; equal arrays give equal bytes. `compressed` is a fast deflate,
    which halves rounded depth."""
    size = sum(array.nbytes for array in arrays.values())
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with (
        replacing(path, size=size) as temporary,
        temporary.open("wb") as file,  # a path of its own zipfile would open again when refused
        zipfile.ZipFile(file, "w", method) as archive,
    ):
        for name in sorted(arrays):
            # Level 2 takes hardly longer than 1, and makes less of single bytes and halves only.
            archive.compresslevel = 1 if arrays[name].itemsize > 2 else 2
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, arrays[name], allow_pickle=False)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz; nothing pickled is loaded.

    Raises `ValueError` when the content is not a whole .npz of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged files make the parsers raise anything
        raise ValueError(f"not an .npz file ({error})") from error


def hash_file(path: Path) -> str:
    """SHA-256 of the content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size (bytes) and modification time (ns) of every file below `folder`, by path relative to it,
    forward slashes; empty where there is none. One pass over the folders, which costs a third of a
    look at each file; linked folders are not entered."""
    found: dict[str, tuple[int, int]] = {}
    waiting = [("", os.fspath(folder))]
    while waiting:
        prefix, place = waiting.pop()
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
                    continue
                try:
                    status = entry.stat()
                except OSError:  # gone meanwhile
                    continue
                if entry.is_file():
                    found[prefix + entry.name] = status.st_size, status.st_mtime_ns
    return found


def remove_temporaries(folder: Path, *, below: bool = True) -> int:
    """Removes what an interrupted run left unfinished in `folder` and, unless told otherwise,
    `below`; returns how many."""
    patterns = (f"{TEMPORARY_PREFIX}*", ".*.partial")
    look = folder.rglob if below else folder.glob
    leftovers = sorted({path for pattern in patterns for path in look(pattern)})
    for leftover in leftovers:
        discard(leftover)
    return len(leftovers)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Removes a file or folder, if it is there and can be removed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass
