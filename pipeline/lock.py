"""One process at a time owns a workspace."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from refdepth.errors import WorkspaceBusyError
from refdepth.pipeline.files import FULL, resource_error

LOCK_NAME = ".refdepth.lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""How file systems that have no locks say so."""


class WorkspaceLock:
    """An exclusive lock on a folder, held for a `with` block.

    The operating system releases it when its owner dies, so a lock left by a dead process never
    blocks. Raises `WorkspaceBusyError` naming the owner, unless `wait` is set, and `ResourceError`
    where the folder cannot be written. On a file system without locks (some network mounts) the
    block runs all the same, with `guarded` false.
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
        self.guarded = False
        """Whether others are kept out."""
        self._path = folder / LOCK_NAME
        self._wait = wait
        self._on_wait = on_wait
        self._check = check
        self._descriptor = -1

    def __enter__(self) -> WorkspaceLock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            self.guarded = self._acquire()
            self._name_owner()
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                raise resource_error(error, self._path.parent) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # a disk that is gone: the lock goes with the descriptor
            os.ftruncate(self._descriptor, 0)
        self._close()

    def _acquire(self) -> bool:
        """Takes the lock, now or when it is free; False where there are no locks."""
        told = False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                owner = _owner(self._path)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return False
                raise
            if not self._wait:
                raise WorkspaceBusyError(
                    f"in use by {owner}.",
                    subject=self._path.parent,
                    action="Wait until it has finished, stop it, or add --wait.",
                )
            if self._on_wait and not told:
                self._on_wait(owner)
                told = True
            if self._check:
                self._check()
            time.sleep(0.2)

    def _name_owner(self) -> None:
        os.ftruncate(self._descriptor, 0)
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        try:
            os.write(self._descriptor, json.dumps(owner).encode())
        except OSError as error:
            if error.errno not in FULL:  # a command that frees space needs the lock, too
                raise

    def _close(self) -> None:
        """Gives the lock back, whether or not it was taken."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self.guarded = False


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
