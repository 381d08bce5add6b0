"""One process at a time owns a workspace."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from refdepth.errors import WorkspaceBusyError
from refdepth.pipeline.files import resource_error

LOCK_NAME = ".refdepth.lock"


class WorkspaceLock:
    """An exclusive lock on a folder, held for a `with` block.

    The operating system releases it when its owner dies, so a lock left by a dead process never
    blocks. Raises `WorkspaceBusyError` naming the owner, unless `wait` is set.
    """

    def __init__(
        self,
        folder: Path,
        *,
        wait: bool = False,
        on_wait: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """`on_wait` is told once who is waited for; `check` is called meanwhile and may raise."""
        self._path = folder / LOCK_NAME
        self._wait = wait
        self._on_wait = on_wait
        self._check = check
        self._descriptor: int | None = None

    def __enter__(self) -> WorkspaceLock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise resource_error(error, self._path.parent) from error
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = _owner(self._path)
                if not self._wait:
                    os.close(descriptor)
                    raise WorkspaceBusyError(
                        f"in use by {owner}.",
                        subject=self._path.parent,
                        action="Wait until it has finished, stop it, or add --wait.",
                    ) from None
                if self._on_wait and not told:
                    self._on_wait(owner)
                    told = True
                if self._check:
                    self._check()
                time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        )
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
