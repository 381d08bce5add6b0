"""What is written outside of a workspace, noted in it while it is not finished: whoever owns the
workspace next can remove what a process that was ended has left there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refdepth.pipeline.files import TEMPORARY_PREFIX, discard, read_json, write_json

_NOTE = f"{TEMPORARY_PREFIX}elsewhere-"


@contextmanager
def passing(root: Path) -> Iterator[Callable[..., None]]:
    """Gives a function that notes temporary paths in the workspace `root`; what is there of them
    goes when the block ends, and the note with it."""
    note = root / f"{_NOTE}{secrets.token_hex(8)}.json"

    def write(*paths: Path) -> None:
        write_json(note, [str(path.absolute()) for path in paths])

    try:
        yield write
    finally:
        _remove(note)


def remove_noted(root: Path) -> None:
    """Removes the temporary files and folders that notes in the workspace `root` tell of."""
    for note in root.glob(f"{_NOTE}*.json"):
        _remove(note)


def _remove(note: Path) -> None:
    noted = read_json(note)
    for path in map(Path, noted if isinstance(noted, list) else ()):
        if path.name.startswith(TEMPORARY_PREFIX):
            discard(path)
    discard(note)
