"""The record beside a stage's files: what made them, from what, and whether they are whole."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from refdepth.pipeline.files import hash_file, list_files, read_sealed, write_sealed

MANIFEST_NAME = "manifest.json"
LIBRARIES = (
    "refdepth",
    "pycolmap",
    "torch",
    "numpy",
    "numba",
    "open3d-cpu",
    "open3d",
    "transformers",
)


class FileRecord(BaseModel):
    """How to recognise one artifact."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time when recorded: the cheap test comes before the hash."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """The record of a file as it is now."""
        status = path.stat()
        return cls(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=hash_file(path))

    def matches(self, path: Path, *, thorough: bool = False) -> bool:
        """Whether `path` still holds what was recorded. Size and time decide when they agree;
        the content decides when the time differs or `thorough` is asked for."""
        try:
            status = path.stat()
            if not path.is_file() or status.st_size != self.size:
                return False
            if status.st_mtime_ns == self.mtime_ns and not thorough:
                return True
            return hash_file(path) == self.sha256
        except OSError:
            return False


class Manifest(BaseModel):
    """What a stage made. Written last: its presence says that the stage is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    version: int
    """Version of the stage's code; a new one makes old artifacts stale."""
    fingerprint: str
    """Hash of all that determines the result."""
    settings: dict[str, Any]
    inputs: dict[str, Any]
    """Fingerprints of upstream stages and identities of outside inputs."""
    files: dict[str, FileRecord]
    """By path relative to the stage folder."""
    dropped: tuple[str, ...] = ()
    """Kinds of files that `refdepth clean` has removed (see `spare`); they are not in `files`."""
    summary: dict[str, Any]
    libraries: dict[str, str]
    seconds: float
    """Wall-clock time of the run that finished it."""
    peak_memory_mb: float
    """Largest resident memory of the process while the stage ran, MiB."""

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            if name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts):
                raise ValueError(f"{name!r} is outside the stage's folder")
        return files

    @classmethod
    def read(cls, stage_dir: Path) -> Manifest | None:
        """The stage's manifest, or None when it is absent, not one, or edited."""
        try:
            with _no_garbage_collection():
                return cls.model_validate(read_sealed(stage_dir / MANIFEST_NAME))
        except ValidationError:
            return None

    def write(self, stage_dir: Path) -> None:
        """Writes it into the stage folder, atomically."""
        write_sealed(stage_dir / MANIFEST_NAME, self.model_dump(mode="json"))

    @property
    def without_files(self) -> Manifest:
        """What else it says: of thousands of views the files fill memory."""
        return self.model_copy(update={"files": {}})

    def damaged_files(
        self,
        stage_dir: Path,
        *,
        present: Mapping[str, tuple[int, int]] | None = None,
        thorough: bool = False,
    ) -> list[str]:
        """Files that are gone or no longer what was recorded. `present` is what `list_files` has
        found in the folder, where that is known."""
        present = list_files(stage_dir) if present is None else present
        return [
            name
            for name, record in self.files.items()
            if (thorough or present.get(name) != (record.size, record.mtime_ns))
            and not record.matches(stage_dir / name, thorough=thorough)
        ]


def record_files(stage_dir: Path, paths: Iterable[Path]) -> dict[str, FileRecord]:
    """Records of `paths`, by path relative to `stage_dir`."""
    return {path.relative_to(stage_dir).as_posix(): FileRecord.of(path) for path in sorted(paths)}


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For what makes a hundred thousand small objects, all of them kept: looking for garbage among
    them takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that make results, and of Python."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
