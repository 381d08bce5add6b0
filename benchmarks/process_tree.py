"""A command with all processes it starts: how long they took, on how many cores, in what memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS_BETWEEN_SAMPLES = 0.05
PSS_SHARE = 0.05
"""Of the time, at most, that the kernel is kept telling what processes share."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a command took, with all processes that it started and waited for."""

    code: int
    """Exit code; negative: the signal that ended it."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    cores: float
    """Kept busy on average."""
    pss_mb: float | None
    """Largest sum over the processes, what they share counted once; None where it is not told."""
    rss_mb: float
    """Largest sum over the processes, what they share counted for each."""
    processes: int
    """Most at once."""
    others: float
    """Cores that processes which are none of ours kept busy meanwhile."""
    sampling: float
    """Of a core, taken by looking at memory."""


def run_measured(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, said: Path, spin: bool
) -> Measured:
    """Runs `command` in `folder`, what it prints goes to the file `said`; with `spin` beside a
    process that keeps a core busy at normal priority."""
    began, busy, ours = time.perf_counter(), _busy_seconds(), _our_seconds()
    with said.open("wb") as output, _spinning(spin):
        started, clock = time.time(), time.perf_counter()
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        memory = _Memory(child.pid)
        try:
            # Its usage holds that of every process that it has waited for.
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - clock
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            memory.stop()
            if child.returncode is None:
                child.kill()
                child.wait()
    others = (_busy_seconds() - busy) - (_our_seconds() - ours)
    return Measured(
        code=child.returncode,
        started=started,
        seconds=seconds,
        cores=(usage.ru_utime + usage.ru_stime) / seconds,
        pss_mb=memory.pss / 2**20 if memory.pss else None,
        rss_mb=memory.rss / 2**20,
        processes=memory.processes,
        others=max(0.0, others / (time.perf_counter() - began)),
        sampling=memory.taken / seconds,
    )


class _Memory(threading.Thread):
    """Looks at a process and its descendants until it is stopped; keeps the largest sums.

    The kernel takes 6 ms a gigabyte to tell what is shared, and keeps the process from getting
    memory meanwhile. So that is asked when there is more memory than ever before, and else now and
    then.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._stop_asked = threading.Event()
        self._due = 0.0
        self._asked_at = 0
        self.pss = self.rss = self.processes = 0
        self.taken = 0.0
        self.start()

    def run(self) -> None:
        """Samples."""
        while not self._stop_asked.wait(SECONDS_BETWEEN_SAMPLES):
            with suppress(psutil.Error):
                self._look([self._root, *self._root.children(recursive=True)])
        self.taken = time.thread_time()

    def stop(self) -> None:
        """Ends it."""
        self._stop_asked.set()
        self.join()

    def _look(self, processes: list[psutil.Process]) -> None:
        rss = sum(_bytes(process, "memory_info", "rss") for process in processes)
        self.rss, self.processes = max(self.rss, rss), max(self.processes, len(processes))
        began = time.perf_counter()
        if rss > 1.02 * self._asked_at or began > self._due:
            pss = sum(_bytes(process, "memory_full_info", "pss") for process in processes)
            now = time.perf_counter()
            self.pss, self._asked_at = max(self.pss, pss), max(self._asked_at, rss)
            self._due = now + (now - began) / PSS_SHARE


def _bytes(process: psutil.Process, ask: str, field: str) -> int:
    """Of a process' memory; 0 where it is gone or the system does not say."""
    with suppress(psutil.Error):
        return int(getattr(getattr(process, ask)(), field, 0))
    return 0


@contextmanager
def _spinning(wanted: bool) -> Iterator[None]:
    """Another process that keeps one core busy, if `wanted`."""
    if not wanted:
        yield
        return
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        spinner.kill()
        spinner.wait()


def _busy_seconds() -> float:
    """Of all cores of the machine since it started; what a hypervisor took from them is busy."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user as well
    return float(sum(times) - idle - guests)


def _our_seconds() -> float:
    """Of a core: this process and all that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
