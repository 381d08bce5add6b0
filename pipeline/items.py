"""Artifacts made one item (photo or view) at a time, each whole or absent, each tied to the
fingerprint it was made under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from refdepth.errors import InputError
from refdepth.pipeline.compact import unpacked
from refdepth.pipeline.files import (
    discard,
    read_arrays,
    read_json,
    read_sealed,
    write_arrays,
    write_sealed,
)
from refdepth.pipeline.manifest import FileRecord


class ItemStore:
    """Items of one stage in one folder: `NAME.npz` with the arrays, `NAME.json` with the record,
    which is all there is of `bare` items.

    The record is written after the arrays and names their hash and the fingerprint, so an item
    counts as done only when both are whole and were made for the present inputs. It holds its own
    hash too: an edited record is made again with its item.
    """

    def __init__(self, folder: Path, fingerprint: str, *, bare: bool = False) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.bare = bare

    def arrays_path(self, name: str) -> Path:
        """Where the arrays of `name` lie."""
        return self.folder / f"{safe_name(name)}.npz"

    def record_path(self, name: str) -> Path:
        """Where the record of `name` lies."""
        return self.folder / f"{safe_name(name)}.json"

    def is_done(self, name: str) -> bool:
        """Whether `name` was finished under the present fingerprint and is undamaged."""
        stored = read_sealed(self.record_path(name))
        if stored is None or stored.get("fingerprint") != self.fingerprint:
            return False
        if self.bare:
            return stored.get("file", 0) is None and isinstance(stored.get("record"), dict)
        try:
            return FileRecord.model_validate(stored.get("file")).matches(self.arrays_path(name))
        except ValidationError:
            return False

    def has_record(self, name: str) -> bool:
        """Whether there is an undamaged record of `name` under the present fingerprint, whatever
        its arrays are."""
        stored = read_sealed(self.record_path(name))
        return stored is not None and stored.get("fingerprint") == self.fingerprint

    def write(
        self, name: str, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]
    ) -> None:
        """Stores one finished item; a bare one has no arrays."""
        file = None
        if self.bare:
            discard(self.arrays_path(name))
        else:
            file = FileRecord.of(self.write_arrays(name, arrays)).model_dump()
        write_sealed(
            self.record_path(name),
            {"fingerprint": self.fingerprint, "file": file, "record": dict(record)},
        )

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Stores arrays without a record: by itself that is no finished item, and enough in a stage
        that is all or nothing. Returns their file."""
        path = self.arrays_path(name)
        self.folder.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, arrays, compressed=True)
        return path

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of a finished item, unpacked. Raises `InputError` when they cannot be read."""
        path = self.arrays_path(name)
        try:
            return unpacked(read_arrays(path))
        except FileNotFoundError as error:
            raise InputError(
                "is not there: not made yet, or dropped by `refdepth clean`.",
                subject=path,
                action="Run the stage that makes it, with --resume.",
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot be read ({error}).",
                subject=path,
                action="Run the stage that makes it again.",
            ) from error

    def record(self, name: str) -> dict[str, Any]:
        """The record of a finished item; empty when there is none."""
        stored = read_json(self.record_path(name))
        record = stored.get("record") if isinstance(stored, dict) else None
        return record if isinstance(record, dict) else {}

    def paths(self, names: Iterable[str]) -> list[Path]:
        """All files of the given items that are there."""
        both = (path for name in names for path in (self.arrays_path(name), self.record_path(name)))
        return [path for path in both if path.is_file()]

    def remove_others(self, names: Iterable[str]) -> None:
        """Removes items that are not among `names`: left from inputs that are gone."""
        keep = set(self.paths(names))
        for pattern in ("*.npz", "*.json"):
            for path in self.folder.glob(pattern):
                if path not in keep and path.name != "manifest.json":
                    path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """`name` if it stays inside the folder it is joined to.

    Raises `InputError` for absolute names and names with `..`.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(
            "is not a name that stays inside the workspace.",
            subject=repr(name),
            action="Rename the picture.",
        )
    return name
