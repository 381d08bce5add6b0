"""What is written outside of a workspace, noted in it while it is not finished: whoever owns the
workspace next can remove what a process that was ended has left there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refdepth.errors import ResourceError
from refdepth.pipeline.files import TEMPORARY_PREFIX, discard, read_json, write_json

_NOTE = f"{TEMPORARY_PREFIX}elsewhere-"


@contextmanager
def passing(root: Path) -> Iterator[Callable[..., None]]:
    """Gives a function that notes temporary paths in the workspace `root`; what is there of them
    goes when the block ends, and the note with it."""
    note, noted = root / f"{_NOTE}{secrets.token_hex(8)}.json", list[Path]()

    def write(*paths: Path) -> None:
        noted.extend(paths)
        with suppress(ResourceError):  # a full or read-only workspace may be exported all the same
            write_json(note, [str(path.absolute()) for path in noted])

    try:
        yield write
    finally:
        for path in noted:
            discard(path)
        discard(note)


def remove_noted(root: Path) -> None:
    """Removes the temporary files and folders that notes in the workspace `root` tell of."""
    for note in root.glob(f"{_NOTE}*.json"):
        noted = read_json(note)
        for path in map(Path, noted if isinstance(noted, list) else ()):
            if path.name.startswith(TEMPORARY_PREFIX):
                discard(path)
        discard(note)
