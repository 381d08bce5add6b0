"""Running pycolmap's long calls in a child process: quiet, watched, and stopped at once.

pycolmap looks at its cancellation token only between photos or blocks of pairs (seconds apart),
writes to the terminal, takes over signal handlers, and ends its process on some malformed input. In
a child none of that reaches the caller; the feature database survives a kill at any moment.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from refdepth.cores import usable_cores
from refdepth.errors import Interrupted, RefdepthError, ResourceError, StageError

logger = logging.getLogger(__name__)

Cancelled = Callable[[], bool]
"""Asked often; True stops the work."""
Progress = Callable[[str, float, float | None], None]
"""Called with a label, what is done and what there is in all (None: unknown)."""

_POLL_SECONDS = 0.1
_THREAD_SECONDS = 20.0
"""Longest wait for a thread's first step, and for its last."""
_LOG_LINE = re.compile(r"^([IWEF])\d{8} \S+ +\d+ (\S+)\] ?(.*)$")
_PHOTO_DONE = re.compile(
    r"(?:Processed file|Undistorting image|Indexing image|Processing image) \[(\d+)/\d+\]"
)
_LEVELS = {"I": logging.DEBUG, "W": logging.INFO, "E": logging.INFO, "F": logging.WARNING}


def thread_count(threads: int) -> int:
    """`threads`, or as many as there are cores for 0."""
    return threads or usable_cores()


def run_step(
    step: str,
    *,
    label: str = "",
    total: int | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    **arguments: Any,
) -> Any:
    """Runs function `step` of `refdepth.sfm.native_calls` with `arguments` (JSON-able) in a child
    process and returns its result. `total` is the number of photos or pairs that progress counts
    to.

    pycolmap's messages go to this module's logger. Raises `Interrupted` when `cancelled` says so,
    `ResourceError` when somebody killed the child (a system short of memory does), and `StageError`
    when the step fails; the child does not outlive this process.
    """
    child = _start()
    events: queue.Queue[tuple[str, str | None]] = queue.Queue()
    pipes = (("event", child.stdout), ("log", child.stderr))
    readers = [_Reader(name, pipe, events) for name, pipe in pipes]
    started: list[_Reader] = []
    try:
        for reader in readers:
            reader.start()  # which fails where memory is refused
            started.append(reader)
        job = {"step": step, "arguments": arguments}
        _send(child.stdin, json.dumps(job, default=os.fspath))
        return _follow(step, _Meter(label or step, total, progress), events, cancelled)
    except _Ended as ended:
        raise _how_it_ended(step, child, ended.reason) from None
    finally:
        child.kill()
        child.wait()
        for reader in started:
            reader.join()
        _close(child)


class _Ended(Exception):  # noqa: N818  (an event)
    """The child has closed its pipes without an answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _how_it_ended(step: str, child: subprocess.Popen[str], reason: str) -> RefdepthError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=1)
    if child.returncode == -signal.SIGKILL:
        return ResourceError(
            "was killed; what is finished is kept.",
            subject=f"pycolmap ({step})",
            action="Run the same command again; where memory was short, close other programs, or"
            " lower --max-memory or prepare.max_size.",
        )
    return StageError(
        f"ended unexpectedly ({reason}).",
        subject=f"pycolmap ({step})",
        action="The log has its last messages.",
    )


class _Meter:
    """Turns what pycolmap logs into progress."""

    def __init__(self, label: str, total: int | None, progress: Progress | None) -> None:
        self.label = label
        self.total = total
        self.progress = progress
        self._before = 0
        self._last = 0

    def report(self, done: float, total: float | None) -> None:
        """Passes on what is known."""
        if self.progress is not None:
            self.progress(self.label, done, total)

    def read(self, message: str) -> None:
        """Reports what a message says about photos done."""
        if self.total is None:
            return
        if match := _PHOTO_DONE.search(message):
            count = int(match[1])
            if count < self._last:  # the second of two calls in one step
                self._before += self._last
            self._last = count
            self.report(min(self._before + count, self.total), self.total)

    def finish(self) -> None:
        """Reports that everything is done."""
        if self.total is not None:
            self.report(self.total, self.total)


def _start() -> subprocess.Popen[str]:
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "refdepth.sfm.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},  # threads by pairs
        start_new_session=True,  # a terminal's Ctrl-C is the caller's to act on
    )


def _send(pipe: IO[str] | None, line: str) -> None:
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError):  # the child's end is noticed where it is read
        pipe.write(line + "\n")
        pipe.flush()


def _close(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # unsent words to a child that has ended
                pipe.close()


class _Reader:
    """Reads the lines of a pipe in a thread.

    `threading.Thread.start` waits for ever for a thread that is refused memory before its first
    step; this one gives up.
    """

    def __init__(
        self, name: str, pipe: IO[str] | None, events: queue.Queue[tuple[str, str | None]]
    ) -> None:
        self._name, self._pipe, self._events = name, pipe, events
        self._begun, self._ended = threading.Event(), threading.Event()

    def start(self) -> None:
        """Begins to read. Raises `RuntimeError` or `MemoryError` where memory is refused."""
        _thread.start_new_thread(self._read, ())
        if not self._begun.wait(_THREAD_SECONDS):
            raise MemoryError("a thread could not begin")

    def join(self) -> None:
        """Waits for the pipe's end."""
        self._ended.wait(_THREAD_SECONDS)

    def _read(self) -> None:
        try:
            self._begun.set()
            for line in self._pipe or ():
                self._events.put((self._name, line.rstrip("\n")))
        finally:
            self._events.put((self._name, None))
            self._ended.set()


def _follow(
    step: str,
    meter: _Meter,
    events: queue.Queue[tuple[str, str | None]],
    cancelled: Cancelled | None,
) -> Any:
    reason = "no reason given; out of memory?"
    open_pipes = 2
    while open_pipes:
        if cancelled is not None and cancelled():
            raise Interrupted("structure from motion was stopped; found features are kept.")
        try:
            name, line = events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            open_pipes -= 1
        elif name == "log":
            message = _log(line)
            meter.read(message)
            if "what():" in message or "Check failed" in message:
                reason = message.strip()
        else:
            event = json.loads(line)
            if "result" in event:
                meter.finish()
                return event["result"]
            if "error" in event:
                raise StageError(event["error"], subject=f"pycolmap ({step})")
            meter.report(*event["progress"])
    raise _Ended(reason)


def _log(line: str) -> str:
    match = _LOG_LINE.match(line)
    if match is None:
        logger.debug("%s", line)
        return line
    severity, place, message = match.groups()
    logger.log(_LEVELS[severity], "%s: %s", place, message)
    return message
