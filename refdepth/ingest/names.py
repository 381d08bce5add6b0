"""The one table of names: which photo a name means, and which file belongs to a photo.

The faces of a panorama `walk/a.jpg` are called as if they lay in a folder of its name,
`walk/a/front.jpg`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from refdepth.errors import InputError
from refdepth.ingest.discovery import list_files, readable
from refdepth.ingest.photos import PreparedPhoto

_Key = Literal["path", "name", "bare path", "bare name", "file", "bare file"]
"""By what a photo is known: its own path, its prepared name, its file name alone; `bare` means
without the ending."""


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """Files of a folder that belong to photos."""

    files: Mapping[str, Path]
    """File by prepared name, for the photos that have one."""
    strangers: tuple[str, ...]
    """Files that mean no photo, as paths relative to the folder."""


class NameTable:
    """Prepared names of photos (those of views and artifacts) and the photos' own paths.

    Built from the rows of the prepared photos, or of the views of a scene that stands alone. People
    see and write the photos' own paths; everything that looks for a photo by a name, or for a
    photo's mask, map or truth, asks here.
    """

    def __init__(
        self, originals: Mapping[str, str], panoramas: Mapping[str, str] | None = None
    ) -> None:
        """`originals` gives each prepared name the photo's own path, forward slashes; `panoramas`
        gives those of faces the path of the panorama."""
        self._originals = dict(originals)
        self._panoramas: dict[str, list[str]] = {}
        for name, panorama in (panoramas or {}).items():
            self._panoramas.setdefault(panorama, []).append(name)
        self._index: dict[_Key, dict[str, list[str]]] = {}
        self._folders: set[str] = set()
        for name, original in self._originals.items():
            path = PurePosixPath(original)
            self._folders.update(str(folder) for folder in path.parents)
            keys: dict[_Key, str] = {
                "path": str(path),
                "name": name,
                "bare path": _bare(path),
                "bare name": _bare(PurePosixPath(name)),
                "file": path.name,
                "bare file": PurePosixPath(_bare(path)).name,
            }
            for kind, key in keys.items():
                self._index.setdefault(kind, {}).setdefault(key, []).append(name)

    @classmethod
    def of(cls, photos: Iterable[PreparedPhoto]) -> NameTable:
        """The table of prepared photos."""
        rows = list(photos)
        return cls(
            {photo.name: photo.original for photo in rows},
            {photo.name: photo.face.panorama for photo in rows if photo.face is not None},
        )

    @classmethod
    def as_given(cls, photos: Iterable[PreparedPhoto]) -> NameTable:
        """The table of prepared photos with, instead of faces, the panoramas that they are of, each
        called by its own path."""
        return cls(
            {photo.name if photo.face is None else photo.given: photo.given for photo in photos}
        )

    @classmethod
    def plain(cls, names: Iterable[str]) -> NameTable:
        """The table of photos that are called by their own paths, as the views of a scene that no
        run has made."""
        return cls({name: name for name in names})

    def __len__(self) -> int:
        return len(self._originals)

    def own(self, name: str) -> str:
        """The photo's own path, for people to read; `name` itself where it is none of these."""
        return self._originals.get(name, name)

    def meant(self, name: str) -> str | None:
        """The prepared name of the photo that a foreign file calls `name`; None where it means no
        photo, or several.

        It means the photo with this path, else this prepared name, else the longest agreeing end of
        the path, with or without the ending, else the only photo of that file name, likewise.
        Raises `InputError` for a name that is absolute or leads out of its folder.
        """
        path = checked_name(name)
        _, found = self._first(self._foreign_keys(path))
        return found[0] if len(found) == 1 else None

    def match(self, names: Iterable[str]) -> dict[str, str]:
        """The prepared name of the photo that each foreign name means; names without one are left
        out.

        Raises `InputError` as `meant` does, and when two names mean the same photo.
        """
        found: dict[str, str] = {}
        claimed: dict[str, str] = {}
        for name in names:
            photo = self.meant(name)
            if photo is None:
                continue
            if photo in claimed:
                raise InputError(
                    f"means the same photo as {claimed[photo]}.",
                    subject=name,
                    action="Each photo may have one camera.",
                )
            claimed[photo] = name
            found[name] = photo
        return found

    def select(self, pattern: str) -> tuple[str, ...]:
        """Prepared names of the photos that a glob pattern matches: by their path, their prepared
        name or, where the pattern has no slash, their file name; with or without the ending. A
        panorama's stands for its faces."""
        kinds: list[_Key] = ["path", "name", "bare path", "bare name"]
        if "/" not in pattern:
            kinds += ["file", "bare file"]
        found = dict.fromkeys(
            name
            for kind in kinds
            for key, names in self._index.get(kind, {}).items()
            if key == pattern or fnmatchcase(key, pattern)
            for name in names
        )
        if self._panoramas:
            for panorama in NameTable.plain(self._panoramas).select(pattern):
                found.update(dict.fromkeys(self._panoramas[panorama]))
        return tuple(found)

    def files(self, folder: Path, suffixes: Sequence[str], *, anywhere: bool = False) -> FoundFiles:
        """The file of each photo in `folder`: the photo's path with one of `suffixes` behind it
        (`a/x.jpg.npy`), else in place of its ending (`a/x.npy`), else the same without the photo's
        folders. Of several suffixes the earlier wins. Links are followed.

        With `anywhere` the photo's path may also lie deeper (`depth/a/x.npy`), in a folder that
        holds none of the photos.
        Raises `InputError` when the folder is none, a photo's path leads out of it, or the file of
        a photo may as well be that of another.
        """
        for original in self._originals.values():
            _check_inside(original)
        offers: dict[str, list[_Offer]] = {}
        strangers: list[str] = []
        for path in list_files(folder, suffixes):
            relative = readable(path.relative_to(folder).as_posix())
            suffix = next(s for s in suffixes if relative.lower().endswith(s))
            base = PurePosixPath(relative[: -len(suffix)])
            rank, photos = self._first(self._file_keys(base, anywhere=anywhere))
            if not photos:
                strangers.append(relative)
            offer = _Offer(rank=(rank, suffixes.index(suffix)), path=path, photos=tuple(photos))
            for name in photos:
                offers.setdefault(name, []).append(offer)
        return FoundFiles(
            files={name: self._best(offers[name]) for name in self._originals if name in offers},
            strangers=tuple(strangers),
        )

    def _best(self, offers: list[_Offer]) -> Path:
        best, *others = sorted(offers, key=lambda offer: offer.rank)
        if len(best.photos) > 1:
            names = [self.own(name) for name in best.photos]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InputError(
                f"may belong to any of the photos {', '.join(names[:3])}{more}.",
                subject=best.path,
                action="Put it into the photo's sub-folder and keep the photo's ending, like"
                f" {names[0]}{best.path.suffix}.",
            )
        if others and others[0].rank == best.rank:
            raise InputError(
                f"belongs to {self.own(best.photos[0])} as much as {others[0].path} does.",
                subject=best.path,
                action="Leave one of them out.",
            )
        return best.path

    def _first(self, keys: Iterable[tuple[_Key, str]]) -> tuple[int, list[str]]:
        """The photos under the first key that any has, and the number of that key."""
        for number, (kind, key) in enumerate(keys):
            found = self._index.get(kind, {}).get(key)
            if found:
                return number, found
        return 0, []

    def _file_keys(self, path: PurePosixPath, *, anywhere: bool) -> Iterator[tuple[_Key, str]]:
        """Under what a file called `path`, its suffix taken off, is looked up."""
        for kind in ("path", "name", "bare path", "bare name"):
            yield kind, str(path)
        if len(path.parts) == 1:
            yield "file", str(path)
            yield "bare file", str(path)
        elif anywhere:
            for end in _ends(path):
                above = PurePosixPath(*path.parts[: len(path.parts) - len(end.parts)])
                if str(above) not in self._folders:
                    yield "path", str(end)
                    yield "bare path", str(end)

    @staticmethod
    def _foreign_keys(path: PurePosixPath) -> Iterator[tuple[_Key, str]]:
        """Under what a name in a foreign file is looked up: its folders may be others, its ending
        may be missing or another."""
        yield "path", str(path)
        yield "name", str(path)
        for end in (path, *_ends(path)):
            yield "path", str(end)
            if len(end.parts) == 1:  # a photo of this very name in another folder goes before
                yield "file", str(end)
            yield "bare path", str(end)
            yield "bare path", _bare(end)
        yield "bare file", path.name
        yield "bare file", PurePosixPath(_bare(path)).name


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """A file that may be a photo's."""

    rank: tuple[int, int]
    path: Path
    photos: tuple[str, ...]
    """All photos that it means equally well."""


def face_path(panorama: str, face: str, suffix: str) -> str:
    """What a face of a panorama is called: `walk/a.jpg` has `walk/a/front.jpg`."""
    return f"{_bare(PurePosixPath(panorama))}/{face}{suffix}"


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


def _check_inside(original: str) -> None:
    path = PurePosixPath(original.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise InputError("the name leads out of the folder.", subject=original or "''")


def _bare(path: PurePosixPath) -> str:
    """`path` without its ending; a video's frame (`clip.mp4#000012`) has none."""
    ending = "" if "#" in path.suffix else path.suffix
    return str(path).removesuffix(ending)


def _ends(path: PurePosixPath) -> Iterator[PurePosixPath]:
    """`path` without its first folder, its first two, and so on."""
    for start in range(1, len(path.parts)):
        yield PurePosixPath(*path.parts[start:])
