"""Works whose items do to their process what their names say; for executors to survive."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refdepth.errors import InputError
from refdepth.pipeline.work import Cost, Desk

logger = logging.getLogger("refdepth.errands")
SMALL = Cost(bytes=1 << 20)


@dataclass(frozen=True)
class Errand:
    """An item leaves `NAME.tries` with the process of each try, and returns its own."""

    folder: Path
    cost: Cost = SMALL

    def open(self, desk: Desk) -> Callable[[str], int]:
        return self.make

    def make(self, name: str) -> int:
        with (self.folder / f"{name}.tries").open("a") as file:
            file.write(f"{os.getpid()}\n")
        kind = name.partition("-")[0]
        if kind == "kills" or (kind == "killsonce" and len(tries(self.folder, name)) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "refuses":
            raise InputError("is refused.", subject=name, action="Leave it out.")
        if kind == "memory":
            raise MemoryError("none left")
        if kind == "sleeps" or (kind == "sleepstwice" and len(tries(self.folder, name)) < 3):
            time.sleep(60)
        if kind == "slow":
            time.sleep(0.3)
        logger.info("%s is done", name)
        return os.getpid()


def tries(folder: Path, name: str) -> list[int]:
    """The processes that have tried an item."""
    path = folder / f"{name}.tries"
    return [int(line) for line in path.read_text().split()] if path.exists() else []
