"""Worker processes on this machine: views side by side, each on few threads."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from refdepth.cores import usable_cores
from refdepth.errors import ResourceError
from refdepth.pipeline.devices import gpus
from refdepth.pipeline.executors import SerialExecutor
from refdepth.pipeline.plan import WORKER_BYTES, Plan, plan_workers
from refdepth.pipeline.queues import Queue, queue_of, sorted_by
from refdepth.pipeline.work import Cost, Finished, Items, Result, Watch, Work
from refdepth.pipeline.worker import Do, Done, Logged, Open, Raised, Ready, Rest, Step, Stop

logger = logging.getLogger(__name__)

MOST_DEATHS = 2
"""An item that has ended so many processes is left."""
STOP_SECONDS = 1.0
"""How long workers may take to leave what they do, before they are ended."""
_MOST_FAILED_STARTS = 3
_LOOK_SECONDS = 0.1


class WorkerPool:
    """As many processes as the work is worth, the machine has cores and memory allows.

    They start when they are first needed and stay for later works. Each gets a run of neighbouring
    items, so that what it keeps serves the next; who has none left takes from the longest rest. An
    item whose process ends is given to another process once.
    """

    def __init__(self, workers: int | None = None, *, max_memory_gb: float | None = None) -> None:
        """`workers` None: as many as are of use."""
        self._asked = workers
        self._max_memory_gb = max_memory_gb
        self._here = SerialExecutor(max_memory_gb)
        self._workers: list[_Worker] = []
        self._numbers = 0
        self._failed_starts = 0

    def run(
        self,
        work: Work[Result],
        names: Sequence[str],
        watch: Watch,
        *,
        in_order: bool = False,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Items[Result]:
        """As the items are done; in this process where that is as quick."""
        plan = self.plan(work.cost, len(names))
        if plan.workers == 1:
            yield from self._here.run(work, names, watch)
            return
        self._resize(plan)
        queue = queue_of(names, plan.workers, in_order=in_order, after=after)
        try:
            items = self._run(work, queue, len(names), watch, plan)
            yield from sorted_by(items, names) if in_order else items
        except BaseException:  # also when whoever asked for the items wants no more of them
            self._stop()
            raise

    def plan(self, cost: Cost, items: int) -> Plan:
        """How `items` are shared out."""
        return plan_workers(
            cost,
            items,
            asked=self._asked,
            running=len(self._workers),
            cores=usable_cores(),
            max_memory_gb=self._max_memory_gb,
        )

    def peak_mb(self) -> float:
        """Of all workers, summed, since this was last asked."""
        total = sum(worker.peak_mb for worker in self._workers)
        for worker in self._workers:
            worker.peak_mb = 0.0
        return total

    def rest(self) -> None:
        """Lets go of what works have left."""
        for worker in self._workers:
            worker.rest()
        self._here.rest()

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._here.close()

    def _run(
        self, work: Work[Result], queue: Queue, count: int, watch: Watch, plan: Plan
    ) -> Items[Result]:
        deaths: dict[str, list[str]] = {}
        done = 0
        while done < count:
            watch.cancellation.check()
            for place, worker in enumerate(self._workers):
                if worker.item is None and (name := queue.take(place)) is not None:
                    worker.give(work, name, plan)
            for place, message in self._messages():
                worker = self._workers[place]
                match message:
                    case Ready():
                        worker.ready, self._failed_starts = True, 0
                    case Done():
                        worker.item, worker.share = None, 0.0
                        worker.peak_mb = max(worker.peak_mb, message.peak_mb)
                        done += 1
                        queue.finished(message.name)
                        yield Finished(
                            name=message.name,
                            result=message.result,
                            place=worker.title,
                            seconds=message.seconds,
                        )
                    case Raised():
                        worker.item = None
                        raise pickle.loads(message.error)
                    case None:
                        lost, how = worker.item, worker.how_it_ended()
                        self._replace(place, how, plan)
                        if lost is None:
                            continue
                        deaths.setdefault(lost, []).append(how)
                        logger.warning("%s: its %s %s", lost, worker.title, how)
                        if len(deaths[lost]) < MOST_DEATHS:
                            queue.put_back(lost)
                            continue
                        done += 1
                        queue.finished(lost)
                        yield Finished(name=lost, result=None, failed=", then ".join(deaths[lost]))
            watch.progress(done + sum(worker.share for worker in self._workers))

    def _messages(self) -> Iterator[tuple[int, Any]]:
        """What workers say, by their place; None from one that is gone."""
        places = {
            worker.connection: place
            for place, worker in enumerate(self._workers)
            if not worker.gone
        }
        for connection in wait(list(places), timeout=_LOOK_SECONDS):
            assert isinstance(connection, Connection)
            place = places[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = None
            if isinstance(message, Step):
                self._workers[place].share = message.share
            elif isinstance(message, Logged):
                logging.getLogger(message.logger).log(message.level, "%s", message.message)
            else:
                yield place, message

    def _resize(self, plan: Plan) -> None:
        if self._max_memory_gb is not None:  # what earlier works have left there is not planned for
            for worker in [w for w in self._workers if w.resident() > WORKER_BYTES]:
                worker.end()
                self._workers.remove(worker)
        for worker in self._workers[plan.workers :]:
            worker.end()
        del self._workers[plan.workers :]
        while len(self._workers) < plan.workers:
            self._workers.append(self._start(plan))

    def _start(self, plan: Plan) -> _Worker:
        self._numbers += 1
        return _Worker.start(self._numbers, plan.threads)

    def _replace(self, place: int, how: str, plan: Plan) -> None:
        if not self._workers[place].ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise ResourceError(
                    f"a worker process {how} before it could begin, again and again.",
                    subject="--workers",
                    action="Use --workers 1, or see that there is memory for more.",
                )
        self._workers[place] = self._start(plan)

    def _stop(self) -> None:
        """Has all workers leave what they do; ends those that take long, and the others as well:
        whoever comes next starts afresh."""
        for worker in self._workers:
            worker.ask_to_stop()
        patience = time.monotonic() + STOP_SECONDS
        while time.monotonic() < patience and any(worker.item for worker in self._workers):
            for place, message in self._messages():
                worker = self._workers[place]
                worker.gone = message is None
                if worker.gone or isinstance(message, Done | Raised):
                    worker.item = None
        for worker in self._workers:
            worker.end()
        self._workers.clear()


@dataclass(kw_only=True)
class _Worker:
    """One process, seen from here."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    gone: bool = False
    item: str | None = None
    share: float = 0.0
    peak_mb: float = 0.0
    work: Work[Any] | None = field(default=None)

    @classmethod
    def start(cls, number: int, threads: int) -> _Worker:
        """A new process, in a process group of its own: signals from a terminal are for the one
        that started it. It imports what this one would import."""
        ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from refdepth.pipeline.worker import serve\n"
            f"serve({theirs.fileno()}, {os.getpid()})"
        )
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
                env=_environment(number, threads),
            )
        return cls(number=number, process=process, connection=Connection(ours.detach()))

    @property
    def title(self) -> str:
        """Its name in the log."""
        return f"worker {self.number} (process {self.process.pid})"

    def give(self, work: Work[Any], name: str, plan: Plan) -> None:
        """Hands over an item, and its work where that is another than before. A process that is
        gone is noticed when it is listened to."""
        self.item, self.share = name, 0.0
        with suppress(OSError):
            if work is not self.work:
                self.connection.send(
                    Open(
                        work=work,
                        cache_bytes=plan.cache_bytes,
                        threads=plan.threads,
                        log_level=logging.getLogger("refdepth").getEffectiveLevel(),
                    )
                )
                self.work = work
            self.connection.send(Do(name=name))

    def resident(self) -> int:
        """Bytes that it holds; 0 when it has ended."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def rest(self) -> None:
        """Has it let go of what works have left; the next is told to it again."""
        self.work = None
        with suppress(OSError):
            self.connection.send(Rest())

    def ask_to_stop(self) -> None:
        """Asks it to leave its item."""
        with suppress(OSError):
            self.connection.send(Stop())

    def how_it_ended(self) -> str:
        """Like `was killed (SIGKILL)`; waits for it."""
        self.gone = True
        self.connection.close()
        try:
            code = self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it has closed its end and hangs
            self.process.kill()
            code = self.process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was killed ({name})"

    def end(self) -> None:
        """Ends it, whatever it does: files are whole or under temporary names."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


def _environment(number: int, threads: int) -> dict[str, str]:
    """This process' environment, with few threads for whatever counts cores when it starts. What
    the user has set stays. Each worker sees a GPU of its own first."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, str(threads))
    environment.setdefault("NUMBA_NUM_THREADS", str(threads))
    found = gpus()
    if len(found) > 1:
        first = number % len(found)
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(found[first:] + found[:first])
    return environment
