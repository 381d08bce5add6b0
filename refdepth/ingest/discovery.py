"""Finding photos and videos in a folder, and safe names for them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from refdepth.errors import InputError

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".webp"),
    *(".bmp", ".gif", ".jp2", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".hif", ".avif"),
)
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".3gp")
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")

_STEM_LENGTH = 100
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*", b"GIF8")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that may be a photo or a video."""

    path: Path
    original: str
    """Path relative to the input folder, forward slashes; bytes that are no text are escaped."""
    kind: Literal["photo", "video"]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that is not used, and why."""

    original: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a folder holds, in natural order (IMG_2 before IMG_10)."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]


def find_photos(folder: Path, exclude: Collection[Path] = ()) -> Findings:
    """Photos and videos in `folder` and below, or the one file that `folder` is.

    Hidden files and folders and the folders in `exclude` are passed over; a folder reached a second
    time through a link is not entered again; files of other kinds are listed as skipped.

    Raises `InputError` when the folder does not exist or cannot be read.
    """
    folder = Path(folder)
    if folder.is_file():
        found = _judge(folder, readable(folder.name))
        if isinstance(found, Skipped):
            raise InputError(
                f"{found.reason}.", subject=folder, action="Give a folder of photos or a video."
            )
        return Findings(candidates=(found,), skipped=())
    if not folder.is_dir():
        raise InputError("no such folder.", subject=folder, action="Give a folder of photos.")
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for path in _files(folder, {other.resolve() for other in exclude}, skipped):
        found = _judge(path, readable(path.relative_to(folder).as_posix()))
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            skipped.append(found)
    return Findings(
        candidates=tuple(sorted(candidates, key=lambda found: natural_key(found.original))),
        skipped=tuple(sorted(skipped, key=lambda found: natural_key(found.original))),
    )


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files in `folder` and below that end in one of `suffixes` (lower case), in natural order.
    Links count as what they lead to.

    Raises `InputError` when the folder does not exist or a part of it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder.", subject=folder, action="Correct the path.")
    unread: list[Skipped] = []
    found = [
        path
        for path in _files(folder, (), unread)
        if path.name.lower().endswith(tuple(suffixes)) and path.is_file()
    ]
    if unread:
        raise InputError(
            f"{unread[0].reason}.",
            subject=folder / unread[0].original,
            action="Check its permissions.",
        )
    return sorted(found, key=lambda path: natural_key(readable(path.as_posix())))


def _files(root: Path, exclude: Collection[Path], skipped: list[Skipped]) -> Iterator[Path]:
    entered: set[Path] = set()
    waiting = [(root, root.resolve())]
    while waiting:
        folder, place = waiting.pop()
        if place in exclude or place in entered:
            continue
        entered.add(place)
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if folder == root:
                raise InputError(
                    f"cannot be read ({error.strerror}).",
                    subject=folder,
                    action="Check its permissions.",
                ) from error
            original = readable(folder.relative_to(root).as_posix())
            skipped.append(Skipped(original=original, reason=f"cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append((entry, _place(entry, place / entry.name)))
            else:
                yield entry


def _place(folder: Path, within_parent: Path) -> Path:
    """Where a folder really is. Asked of the system for links alone: it looks at all folders above
    (Windows knows links that are none to Python)."""
    return folder.resolve() if os.name == "nt" or folder.is_symlink() else within_parent


def _judge(path: Path, original: str) -> Candidate | Skipped:
    suffix = path.suffix.lower()
    try:
        if not path.is_file():
            reason = "not a regular file (a broken link?)"
        elif suffix in VIDEO_SUFFIXES:
            return Candidate(path=path, original=original, kind="video")
        elif suffix in RAW_SUFFIXES:
            reason = "raw camera file; develop it to JPEG, PNG or TIFF first"
        elif suffix in PHOTO_SUFFIXES or _starts_like_photo(path):
            return Candidate(path=path, original=original, kind="photo")
        else:
            reason = "not a photo"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    return Skipped(original=original, reason=reason)


def _starts_like_photo(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(_MAGIC)


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which numbers in names order by value."""
    parts = re.split(r"([0-9]+)", text)
    key = [(0, int(part)) if part.isascii() and part.isdigit() else (1, part) for part in parts]
    return (*key, (2, text))


def readable(name: str) -> str:
    """`name` as text that every file format takes: undecodable bytes become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def safe_stems(originals: Sequence[str]) -> dict[str, str]:
    """A file name stem for each original path: ASCII letters, digits, `_`, `-` and `.`, not
    starting with a dash or dot, unique also where case does not count, readable after the original.

    A stem depends on the original alone, but where two would be equal both get a short hash.
    """
    stems = {original: _slug(original) for original in originals}
    count = Counter(stem.casefold() for stem in stems.values())
    return {
        original: stem if count[stem.casefold()] == 1 else f"{stem}-{_short_hash(original)}"
        for original, stem in stems.items()
    }


def _slug(original: str) -> str:
    path = PurePosixPath(original)
    text = "_".join([*path.parent.parts, path.stem])
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    if not slug:
        return f"photo-{_short_hash(original)}"
    if len(slug) > _STEM_LENGTH:
        return f"{slug[:_STEM_LENGTH]}-{_short_hash(original)}"
    return slug


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
