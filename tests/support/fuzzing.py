"""Readers of foreign files fed with mutated ones, guided by the lines they reach.

A reader may refuse its input with an error of refdepth's own. Anything else is a finding: another
exception, a hang, a file opened outside the folder, something unpickled.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_targets import Target

from refdepth.errors import RefdepthError

ROOT = Path(__file__).parents[2]
SECONDS_BEFORE_HANG = 10
INTERESTING: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 1e-320, 2**31, 2**63, -(2**63), 10**400),
    *(float("nan"), float("inf"), "", "\0", "..", "../../etc/passwd", "/etc/passwd", "a" * 5000),
    *("\ud800", "C:\\x", "NaN", [], {}, [[]], {"a": {}}, [None], [[0.0] * 4] * 4),
)
NUMBERS = tuple(struct.pack("<Q", value) for value in (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
DOUBLES = tuple(struct.pack("<d", value) for value in (float("nan"), float("inf"), 1e308, -1.0))


class Finding(Exception):  # noqa: N818  (what it is, not an error of the fuzzer)
    """A reader did what it must not."""


class Fuzzer:
    """Mutates inputs of one target; keeps those that reach lines no other has reached."""

    def __init__(self, target: Target, folder: Path, seed: int) -> None:
        self._target = target
        self._path = folder / target.file
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rng = np.random.default_rng(seed)
        self._pool = target.seeds()
        self._lines: set[tuple[str, int]] = set()
        self.tried = 0

    def run(self, *, count: int | None = None, seconds: float | None = None) -> None:
        """Tries so many inputs, or for so long. Raises `Finding`; `last` is the input."""
        end = None if seconds is None else time.monotonic() + seconds
        for data in self._inputs():
            if (count is not None and self.tried >= count) or (end and time.monotonic() > end):
                return
            self.last = data
            reached = self.feed(data)
            self.tried += 1
            if not reached <= self._lines:
                self._lines |= reached
                self._pool.append(data)

    def feed(self, data: bytes) -> set[tuple[str, int]]:
        """Lets the reader read `data`; returns the lines it reached."""
        self._path.write_bytes(data)
        with _guarded(self._path.parents[len(Path(self._target.file).parts) - 1]) as reached:
            self._target.read(self._path)
        return reached

    def _inputs(self) -> Iterator[bytes]:
        yield from list(self._pool)
        yield b""
        while True:
            data = self._pool[int(self._rng.integers(len(self._pool)))]
            for _ in range(int(self._rng.integers(1, 5))):
                data = self._mutate(data)
            yield data

    def _mutate(self, data: bytes) -> bytes:
        rng = self._rng
        kind = int(rng.integers(8))
        at = int(rng.integers(len(data) + 1))
        length = int(rng.integers(1, 17))
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        if kind == 1:
            return data[:at]
        if kind == 2:
            return data[:at] + data[at + length :]
        if kind == 3:
            return data[: at + length] + data[at:]
        if kind == 4:
            return data[:at] + rng.bytes(length) + data[at + length :]
        if kind == 5:
            choices = NUMBERS + DOUBLES
            word = choices[int(rng.integers(len(choices)))]
            return data[:at] + word + data[at + len(word) :]
        if kind == 6:
            other = self._pool[int(rng.integers(len(self._pool)))]
            return data[:at] + other[int(rng.integers(len(other) + 1)) :]
        return self._mutate_json(data)

    def _mutate_json(self, data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return data[::-1] if self._rng.random() < 0.05 else data + b"\n"
        places = list(_places(value))
        new = INTERESTING[int(self._rng.integers(len(INTERESTING)))]
        if not places:
            return json.dumps(new).encode()
        holder, key = places[int(self._rng.integers(len(places)))]
        if self._rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = new
        return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


class _Watch:
    """Audit hooks cannot be taken away again: one for the process, looking only when told."""

    folder: Path | None = None
    seen = ""
    installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect"):
            self.seen = event
        elif event == "open" and isinstance(arguments[0], str):
            path = Path(os.path.realpath(arguments[0]))
            writes = bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            library = not writes and str(path).startswith((sys.prefix, sys.base_prefix, str(ROOT)))
            inside = path.is_relative_to(self.folder.resolve())
            if not (inside or library or str(path).startswith(("/proc/", "/dev/", "/sys/"))):
                self.seen = f"open {path}"


_WATCH = _Watch()


@contextmanager
def _guarded(folder: Path) -> Iterator[set[tuple[str, int]]]:
    """Turns what a reader must not do into a `Finding`; yields the lines it reaches."""
    if not _Watch.installed:
        sys.addaudithook(_WATCH)
        _Watch.installed = True
    reached: set[tuple[str, int]] = set()
    ours = (str(ROOT / "refdepth"), str(ROOT / "pipeline"))

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ours):
            return None
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    def hang(*_: Any) -> None:
        raise Finding(f"no answer within {SECONDS_BEFORE_HANG} s")

    before_alarm = signal.signal(signal.SIGALRM, hang)
    before_trace = sys.gettrace()
    signal.alarm(SECONDS_BEFORE_HANG)
    _WATCH.folder, _WATCH.seen = folder, ""
    sys.settrace(trace)
    try:
        yield reached
    except RefdepthError:
        pass
    except Finding:
        raise
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error
    finally:
        sys.settrace(before_trace)
        _WATCH.folder = None
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before_alarm)
    if _WATCH.seen:
        raise Finding(_WATCH.seen)
