"""The folder a reconstruction lives in."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from refdepth.errors import InputError
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.elsewhere import remove_noted
from refdepth.pipeline.files import hash_file, hash_json, read_json, remove_temporaries, write_json

REQUEST_NAME = "refdepth.json"
LOG_NAME = "refdepth.log"
STAGE_DIRS = ("prepare", "sfm", "depth", "scale", "refine", "fuse")
"""Folders of the stages, which are called like these (see `registry`)."""
EXPORT_DIR = "export"
"""Where exports go if nothing else is said."""
_HASH_CACHE = ".hashes.json"


class Workspace:
    """Paths inside an output folder, and what was asked of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._resolved: dict[str, str] = {}

    @classmethod
    def find(cls, start: Path) -> Workspace:
        """The workspace at `start` or the nearest parent that is one.

        Raises `InputError` when there is none.
        """
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / REQUEST_NAME).is_file():
                return cls(folder)
        raise InputError(
            "is not a refdepth workspace, nor is any folder above it.",
            subject=start,
            action="Name one with --workspace, or make one with `refdepth reconstruct`.",
        )

    @property
    def log_path(self) -> Path:
        """The log file."""
        return self.root / LOG_NAME

    def stage_dir(self, stage: str) -> Path:
        """Where a stage leaves its artifacts."""
        return self.root / stage

    def request(self) -> RunRequest:
        """What was last asked of this workspace. Raises `InputError` when that is unreadable."""
        path = self.root / REQUEST_NAME
        try:
            return RunRequest.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"cannot be understood ({field}: {first['msg']}); is it another version's?",
                subject=path,
                action="Run `refdepth reconstruct` on this folder again; what is valid is reused.",
            ) from error

    def write_request(self, request: RunRequest) -> None:
        """Remembers what is asked."""
        content = request.model_dump(mode="json")
        if read_json(self.root / REQUEST_NAME) != content:
            write_json(self.root / REQUEST_NAME, content)

    def clean(self) -> None:
        """Removes what an interrupted run left unfinished. Other folders in this one, photos among
        them, are their owner's."""
        remove_noted(self.root)
        for folder in (self.root, self.root / EXPORT_DIR):
            remove_temporaries(folder, below=False)
        for stage in STAGE_DIRS:
            remove_temporaries(self.stage_dir(stage))

    def content_hash(self, path: Path) -> str:
        """SHA-256 of a file, remembered by size and modification time."""
        known = self.known_hash(path)
        if known is None:
            status, known = path.stat(), hash_file(path)
            self._remembered[self._key(path)] = [status.st_size, status.st_mtime_ns, known]
        return known

    def known_hash(self, path: Path) -> str | None:
        """The remembered SHA-256 of a file; None when it is another than it was, or new."""
        status = path.stat()
        match self._remembered.get(self._key(path)):
            case [size, time, str(known)] if [size, time] == [status.st_size, status.st_mtime_ns]:
                return known
        return None

    def _key(self, path: Path) -> str:
        """Under what a file is remembered: its name in its folder, links on the way resolved."""
        folder, name = os.path.split(path)
        if folder not in self._resolved:
            self._resolved[folder] = os.path.realpath(folder)
        return os.path.join(self._resolved[folder], name)  # noqa: PTH118  (thousands of photos)

    def folder_hash(self, folder: Path, pattern: str = "*") -> str:
        """Hash of the names and contents of all files below `folder` that match `pattern`."""
        files = sorted(p for p in folder.rglob(pattern) if p.is_file())
        return hash_json([(p.relative_to(folder).as_posix(), self.content_hash(p)) for p in files])

    @cached_property
    def _remembered(self) -> dict[str, Any]:
        stored = read_json(self.root / _HASH_CACHE)
        return stored if isinstance(stored, dict) else {}

    def save_hashes(self) -> None:
        """Keeps the remembered hashes for the next run."""
        path = self.root / _HASH_CACHE
        if self._remembered and read_json(path) != self._remembered:
            write_json(path, self._remembered)
