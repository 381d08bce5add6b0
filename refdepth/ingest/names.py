"""Finding the prepared photo that a foreign file means by a name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from refdepth.errors import InputError
from refdepth.ingest.photos import PreparedPhoto


def match_names(names: Iterable[str], photos: Sequence[PreparedPhoto]) -> dict[str, PreparedPhoto]:
    """The photo that each name means; names without one are left out.

    A name means the photo with this path in the input folder, else this prepared name, else the
    longest agreeing end of the path, else the only photo of that file name, with or without suffix.
    Raises `InputError` for names that are absolute or lead out of their folder, and when two names
    mean the same photo.
    """
    keys: tuple[Callable[[PurePosixPath], str], ...] = (
        str,
        lambda path: path.name,
        lambda path: str(path.with_suffix("")),
        lambda path: path.stem,
    )
    originals = {photo.name: PurePosixPath(photo.original) for photo in photos}
    tables = [_unique({photo.name: key(originals[photo.name]) for photo in photos}) for key in keys]
    prepared = {photo.name: photo.name for photo in photos}
    by_name = {photo.name: photo for photo in photos}
    found: dict[str, PreparedPhoto] = {}
    claimed: dict[str, str] = {}
    for name in names:
        path = checked_name(name)
        meant = _lookup(path, tables, prepared)
        if meant is None:
            continue
        if meant in claimed:
            raise InputError(
                f"means the same photo as {claimed[meant]}.",
                subject=name,
                action="Each photo may have one camera.",
            )
        claimed[meant] = name
        found[name] = by_name[meant]
    return found


def checked_name(name: str) -> PurePosixPath:
    """`name` as a relative path. Raises `InputError` when it is absolute or leads out."""
    text = name.replace("\\", "/")
    if not text or "\0" in text:
        raise InputError("no file name.", subject=repr(name))
    path = PurePosixPath(posixpath.normpath(text))
    if path.is_absolute() or path.parts[:1] == ("..",) or re.match(r"^[A-Za-z]:", text):
        raise InputError(
            "leads out of its folder.",
            subject=name,
            action="Names must be relative to the folder of the photos.",
        )
    return path


def _lookup(
    path: PurePosixPath, tables: Sequence[dict[str, str]], prepared: dict[str, str]
) -> str | None:
    full, file_name, bare, stem = tables
    if str(path) in full:
        return full[str(path)]
    if str(path) in prepared:
        return str(path)
    ends = [PurePosixPath(*path.parts[start:]) for start in range(1, len(path.parts))]
    for end in ends:
        if str(end) in full:
            return full[str(end)]
    if path.name in file_name:
        return file_name[path.name]
    for end in (path, *ends):
        for text in (str(end.with_suffix("")), str(end)):
            if text in bare:
                return bare[text]
    return stem.get(path.stem) or stem.get(path.name)


def _unique(keys: dict[str, str]) -> dict[str, str]:
    """Key to photo name, for keys that only one photo has."""
    inverse: dict[str, list[str]] = {}
    for name, key in keys.items():
        inverse.setdefault(key, []).append(name)
    return {key: names[0] for key, names in inverse.items() if len(names) == 1}
