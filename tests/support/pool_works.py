"""Small works for worker processes, some of which end badly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refdepth.errors import InputError
from refdepth.pipeline.work import Cost, Desk

NOTHING = Cost()


@dataclass(frozen=True)
class Shout:
    """The name in capitals, and the process that did it."""

    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], tuple[str, int]]:
        return lambda name: (name.upper(), os.getpid())


@dataclass(frozen=True)
class Keeping:
    """Leaves a thing for later works; whether it was there, and the process."""

    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], tuple[bool, int]]:
        there = bool(desk.kept)
        desk.keep("thing", os.getpid)
        return lambda name: (there, os.getpid())


@dataclass(frozen=True)
class Slow:
    """Writes a file of its name at the start and another at the end, with steps in between."""

    folder: Path
    seconds: float = 30.0
    steps: int = 1000
    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], str]:
        def make(name: str) -> str:
            (self.folder / name).write_text(str(os.getpid()))
            for step in range(self.steps):
                time.sleep(self.seconds / self.steps)
                desk.step(step / self.steps)
            (self.folder / f"{name}.done").touch()
            return name

        return make


@dataclass(frozen=True)
class Hang(Slow):
    """The same without steps: as a long native call."""

    steps: int = 1


@dataclass(frozen=True)
class Fatal:
    """Some items end their process, so many times; tries are counted in files."""

    folder: Path
    times: int
    victims: tuple[str, ...] = ("c",)
    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], str]:
        def make(name: str) -> str:
            tries = self.folder / f"{name}-{os.getpid()}"
            tries.touch()
            if name in self.victims and len(list(self.folder.glob(f"{name}-*"))) <= self.times:
                os.kill(os.getpid(), signal.SIGKILL)
            return name

        return make


class OddError(Exception):
    """Cannot be told to another process as it is."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


@dataclass(frozen=True)
class Raise:
    """One item raises an error."""

    kind: str
    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], str]:
        def make(name: str) -> str:
            if name == "b":
                if self.kind == "input":
                    raise InputError("is no picture.", subject="b.jpg", action="Leave it out.")
                if self.kind == "memory":
                    raise MemoryError("no more")
                raise OddError("this", "that")
            return name

        return make


@dataclass(frozen=True)
class Threads:
    """How many threads libraries and kernels use."""

    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], tuple[int, str]]:
        import numba

        return lambda name: (numba.get_num_threads(), os.environ["OPENBLAS_NUM_THREADS"])


@dataclass(frozen=True)
class Order:
    """Some items take longer; each says when it began."""

    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], float]:
        def make(name: str) -> float:
            began = time.monotonic()
            time.sleep(0.6 if name == "a0" else 0.01)
            return began

        return make
