"""Ctrl-C and SIGTERM: stop soon, lose nothing.

Python runs its signal handlers between bytecodes of the main thread, which may be inside a long
native call. A watcher thread therefore reads the signal number from the wake-up pipe: the first
signal asks the run to stop at its next safe point and, should that take too long, ends the process;
the second ends it at once. Both are safe at any instant: artifacts are renamed into place whole.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from refdepth.cli.exit_codes import ExitCode
from refdepth.pipeline.cancellation import Cancellation

GRACE_SECONDS = 2.0
"""How long a stage may take to reach a safe point before the process ends anyway."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(cancellation: Cancellation, say: Callable[[], None]) -> Iterator[None]:
    """While the block runs, signals request `cancellation`; `say` tells the user how to go on if
    the process has to end before the block does."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, cancellation, say), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()
        watcher.join()
        reader.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """The watcher acts; a handler must be there for the wake-up pipe to be written."""


def _watch(reader: socket.socket, cancellation: Cancellation, say: Callable[[], None]) -> None:
    asked = False
    while True:
        reader.settimeout(GRACE_SECONDS if asked else None)
        try:
            received = reader.recv(16)
        except TimeoutError:
            _end(say)
        if not received:
            return
        if any(number in _SIGNALS for number in received):
            if asked:
                _end(say)
            asked = True
            cancellation.request()


def _end(say: Callable[[], None]) -> None:
    say()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.INTERRUPTED)
