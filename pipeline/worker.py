"""A worker process: gets works and names over a pipe, does them, answers.

Its main thread computes. A second one reads the pipe, so that a stop, or the end of the process
that started it, is noticed while an item is being made: nobody is left to work for a dead run.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Hashable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.environment import prepare_process, release_freed_memory
from refdepth.pipeline.memory import PeakMemory, is_out_of_memory
from refdepth.pipeline.work import Desk, Work
from refdepth.threads import use_threads

SECONDS_BETWEEN_STEPS = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Open:
    """To a worker: the work that the next items belong to."""

    work: Work[Any]
    cache_bytes: int
    threads: int
    log_level: int


@dataclass(frozen=True, kw_only=True)
class Do:
    """To a worker: the next item."""

    name: str


@dataclass(frozen=True)
class Rest:
    """To a worker: hold nothing for later works."""


@dataclass(frozen=True)
class Stop:
    """To a worker: leave the item at hand."""


@dataclass(frozen=True)
class Ready:
    """From a worker: everything is imported."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """From a worker: share of the item at hand that is done."""

    share: float


@dataclass(frozen=True, kw_only=True)
class Logged:
    """From a worker: a line for the log."""

    logger: str
    level: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """From a worker: an item is made."""

    name: str
    result: Any
    seconds: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class Raised:
    """From a worker: an item has raised an error; pickled with its traceback as a note."""

    name: str
    error: bytes


def serve(descriptor: int, parent: int) -> None:
    """Works for the process `parent` at the other end of the socket `descriptor`; returns when that
    asks for nothing more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    _die_with(parent)
    prepare_process()
    connection = Line(descriptor)
    inbox: queue.SimpleQueue[Open | Do | Rest] = queue.SimpleQueue()
    cancellation = Cancellation()
    reader = threading.Thread(
        target=_read, args=(connection, parent, inbox, cancellation), daemon=True
    )
    reader.start()
    connection.send(Ready())
    _Bench(connection, inbox, cancellation).work()


class Line(Connection):
    """A connection that several threads may send on. When nobody listens any more, there is nobody
    left to work for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._lock = threading.Lock()

    def send(self, obj: object) -> None:
        """Sends a message; ends the process where that is impossible."""
        with self._lock:
            try:
                super().send(obj)
            except OSError:
                os._exit(0)


class _Bench:
    """Where items are made, one after the other."""

    def __init__(
        self,
        connection: Line,
        inbox: queue.SimpleQueue[Open | Do | Rest],
        cancellation: Cancellation,
    ) -> None:
        self._connection = connection
        self._inbox = inbox
        self._cancellation = cancellation
        self._kept: dict[Hashable, Any] = {}
        self._last_step = 0.0
        self._log = _Sender(connection)
        logging.getLogger("refdepth").addHandler(self._log)

    def work(self) -> None:
        """Does what comes."""
        opened: Open | None = None
        make = None
        while True:
            task = self._inbox.get()
            if isinstance(task, Rest):
                opened = make = None
                self._kept.clear()
                release_freed_memory()
                continue
            if isinstance(task, Open):
                opened, make = task, None
                release_freed_memory()  # of the work before, which was another
                logging.getLogger("refdepth").setLevel(task.log_level)
                continue
            assert opened is not None
            started, peak = time.perf_counter(), PeakMemory()
            try:
                self._cancellation.check()
                if make is None:
                    use_threads(opened.threads)
                    make = opened.work.open(self._desk(opened))
                result = make(task.name)
            except BaseException as error:
                self._connection.send(Raised(name=task.name, error=packed(error)))
                continue
            self._connection.send(
                Done(
                    name=task.name,
                    result=result,
                    seconds=time.perf_counter() - started,
                    peak_mb=peak.megabytes(),
                )
            )

    def _desk(self, opened: Open) -> Desk:
        return Desk(
            cancellation=self._cancellation,
            step=self._step,
            cache_bytes=opened.cache_bytes,
            kept=self._kept,
        )

    def _step(self, share: float) -> None:
        self._cancellation.check()
        now = time.monotonic()
        if now - self._last_step >= SECONDS_BETWEEN_STEPS:
            self._last_step = now
            self._connection.send(Step(share=share))


class _Sender(logging.Handler):
    """Log lines go to the process that keeps the log."""

    def __init__(self, connection: Line) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one line."""
        self._connection.send(
            Logged(logger=record.name, level=record.levelno, message=record.getMessage())
        )


def packed(error: BaseException) -> bytes:
    """An error as bytes, where it was raised as a note."""
    trace = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):  # which only the process that ran out can tell of some errors
        error = MemoryError(str(error))
    for candidate in (error, RuntimeError(f"{type(error).__name__}: {error}")):
        try:
            candidate.add_note(trace)
            raw = pickle.dumps(candidate)
            pickle.loads(raw)
            return raw
        except Exception:
            continue
    raise AssertionError(trace)


def _read(
    connection: Line,
    parent: int,
    inbox: queue.SimpleQueue[Open | Do | Rest],
    cancellation: Cancellation,
) -> None:
    """Passes on what comes; ends the process when the other end is gone. What is half made then is
    in temporary files."""
    try:
        while True:
            while not connection.poll(_SECONDS_BETWEEN_LOOKS):
                if os.getppid() != parent:
                    os._exit(0)
            message = connection.recv()
            if isinstance(message, Stop):
                cancellation.request()
            else:
                inbox.put(message)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # a work that cannot be read: it would be waited for without end
        traceback.print_exc()
        os._exit(1)


def _die_with(parent: int) -> None:
    """Has Linux end this process with its parent, even in the middle of a long native call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
