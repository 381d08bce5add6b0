"""The same work on a Ray cluster: one item is one Ray task, placed by Ray's own scheduler.

The workspace lies on storage that all nodes see. What travels is the work (paths and settings), the
names of items, and what they hand back. Ray retries nothing: what becomes of an item whose process
or node has gone is decided here.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refdepth.errors import RefdepthError, UnavailableError
from refdepth.pipeline.cluster_connection import (
    LOCAL,
    LOOK_SECONDS,
    Connection,
    alive,
    connect,
    refuse_address,
)
from refdepth.pipeline.cluster_node import THREADS, Answer, Assignment, perform
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.files import TEMPORARY_PREFIX, write_bytes
from refdepth.pipeline.plan import WORKER_BYTES
from refdepth.pipeline.queues import After, sorted_by
from refdepth.pipeline.work import Cost, Finished, Items, Result, Watch, Work
from refdepth.pipeline.workers import MOST_DEATHS

logger = logging.getLogger(__name__)

MOST_TRIES = 10
"""An item that has not been done in so many is left, whatever became of them."""
_IN_FLIGHT_PER_CORE = 2
"""Tasks that are given to Ray at a time: each core has the next at hand."""
_SECONDS_BETWEEN_COUNTS = 2.0
_STOP_SECONDS = 0.5


class RayExecutor:
    """Does works on the Ray cluster at `address`, or on one that is started for the run (`local`).

    It is connected to, and its nodes are checked, when there is work for it. Nodes that join later
    get work, too. An item that has ended two processes is left; one whose node has gone runs again.
    """

    def __init__(
        self,
        address: str,
        *,
        workspace: Path,
        request: RunRequest,
        workers: int | None = None,
        max_memory_gb: float | None = None,
    ) -> None:
        """`workers`: tasks at a time; None: as many as there are cores. Raises
        `ConfigurationError` for what is no address, `UnavailableError` where Ray is missing."""
        refuse_address(address)
        self._address = address
        self._workspace = workspace
        self._request = request
        self._workers = workers
        self._max_memory_gb = max_memory_gb
        self._connection: Connection | None = None
        self._peaks: dict[str, float] = {}

    def run(
        self,
        work: Work[Result],
        names: Sequence[str],
        watch: Watch,
        *,
        in_order: bool = False,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Items[Result]:
        """As the items are done, or in order. Raises `UnavailableError` where the cluster does not
        answer or a node is not what it has to be."""
        if not names:
            return
        watch.cancellation.check()
        if self._connection is None:
            self._connection = connect(
                self._address, self._workspace, self._request, self._max_memory_gb, watch
            )
        tasks = _Tasks.of(work, self._connection, self._workers, self._max_memory_gb)
        try:
            items = self._run(tasks, _Waiting(names, in_order, after or {}), watch)
            yield from sorted_by(items, names) if in_order else items
        finally:
            tasks.cancel(patience=0.0 if self._address == LOCAL else _STOP_SECONDS)

    def peak_mb(self) -> float:
        """Of all processes on all nodes, summed, since this was last asked."""
        total = sum(self._peaks.values())
        self._peaks.clear()
        return total

    def rest(self) -> None:
        """Nothing: Ray ends processes that have nothing to do."""

    def close(self) -> None:
        """Leaves the cluster."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, tasks: _Tasks, waiting: _Waiting, watch: Watch) -> Items[Any]:
        failures: dict[str, _Failures] = {}
        while waiting.open:
            watch.cancellation.check()
            while (name := waiting.take(tasks.in_flight, tasks.most())) is not None:
                tasks.start(name)
            for name, outcome in tasks.ended():
                if isinstance(outcome, Answer):
                    waiting.finished(name)
                    yield self._finished(name, outcome)
                    continue
                failures.setdefault(name, _Failures()).add(outcome)
                logger.warning("%s: %s", name, outcome.how)
                if failures[name].enough():
                    waiting.finished(name)
                    yield Finished(name=name, result=None, failed=str(failures[name]))
                else:
                    waiting.put_back(name)
            watch.progress(waiting.done)

    def _finished(self, name: str, answer: Answer) -> Finished[Any]:
        for where, level, line in answer.lines:
            logging.getLogger(where).log(level, "%s", line)
        if answer.error is not None:
            error: BaseException = pickle.loads(answer.error)
            raise error
        self._peaks[answer.place] = max(self._peaks.get(answer.place, 0.0), answer.peak_mb)
        return Finished(name=name, result=answer.result, place=answer.place, seconds=answer.seconds)


@dataclass(frozen=True, kw_only=True)
class _Lost:
    """How a task ended that has no answer."""

    how: str
    counts: bool
    """Whether the item may be the reason."""
    nodes: frozenset[str]
    """Those that were there when the task was given to Ray."""


@dataclass
class _Failures:
    """What became of the tries at an item."""

    lost: list[_Lost] = field(default_factory=list)

    def add(self, lost: _Lost) -> None:
        """Notes one more."""
        self.lost.append(lost)

    def enough(self) -> bool:
        """Whether the item is left. A process that ended while a node went may have gone with it,
        whatever Ray says, and does not count."""
        nodes = alive().keys()
        deaths = [lost for lost in self.lost if lost.counts and lost.nodes <= nodes]
        return len(deaths) >= MOST_DEATHS or len(self.lost) >= MOST_TRIES

    def __str__(self) -> str:
        return ", then ".join(lost.how for lost in self.lost)


class _Waiting:
    """Names that are still to be done, the first first."""

    def __init__(
        self, names: Sequence[str], in_order: bool, after: Mapping[str, Sequence[str]]
    ) -> None:
        self._waiting = After(names, after)
        self._number = {name: number for number, name in enumerate(names)}
        self._in_order = in_order
        self.open = dict.fromkeys(names)
        """Those that are not done, given away or not."""
        self.done = 0

    def take(self, in_flight: int, most: int) -> str | None:
        """The next name; None when `most` are in flight, or, in order, when it would be further
        ahead of the first that is not done."""
        if in_flight >= most or (name := self._waiting.take(0)) is None:
            return None
        first = self._number[next(iter(self.open))]
        if self._in_order and self._number[name] >= first + most:
            self._waiting.put_back(name)
            return None
        return name

    def put_back(self, name: str) -> None:
        """To be tried again."""
        self._waiting.put_back(name)

    def finished(self, name: str) -> None:
        """Done with."""
        del self.open[name]
        self._waiting.finished(name)
        self.done += 1


class _Tasks:
    """The items of one work that Ray has."""

    def __init__(self, assignment: Assignment, most: int | None, options: dict[str, Any]) -> None:
        """`options` are Ray's."""
        import ray

        self._assignment = ray.put(assignment)
        self._mark = (
            assignment.expected.workspace / f"{TEMPORARY_PREFIX}items-{secrets.token_hex(8)}"
        )
        write_bytes(self._mark, b"")
        self._asked = most
        self._options = options
        self._flights: dict[Any, tuple[str, frozenset[str]]] = {}
        self._most = 0
        self._nodes: frozenset[str] = frozenset()
        self._counted = -_SECONDS_BETWEEN_COUNTS

    @classmethod
    def of(
        cls,
        work: Work[Any],
        connection: Connection,
        workers: int | None,
        max_memory_gb: float | None,
    ) -> _Tasks:
        """For a work on a cluster."""
        cost, nodes = work.cost, alive().values()
        gpu = cost.gpu > 0 and any(node["Resources"].get("GPU") for node in nodes)
        each = WORKER_BYTES + cost.bytes
        most, cache = _within(max_memory_gb, workers, cost)
        assignment = Assignment(
            work=work,
            expected=connection.expected,
            cache_bytes=cache,
            log_level=logging.getLogger("refdepth").getEffectiveLevel(),
        )
        largest = max((node["Resources"].get("memory", each) for node in nodes), default=each)
        options = {
            "num_cpus": THREADS,
            "num_gpus": cost.gpu if gpu else 0,
            "memory": int(min(each, largest)),  # more than any node has would wait without end
            "max_retries": 0,
        }
        return cls(assignment, most, options)

    @property
    def in_flight(self) -> int:
        """Tasks that have not ended."""
        return len(self._flights)

    def most(self) -> int:
        """How many may be in flight."""
        self._count()
        return self._most

    def start(self, name: str) -> None:
        """Gives an item to Ray."""
        import ray

        task = ray.remote(perform).options(name=f"refdepth {name}", **self._options)
        ref = task.remote([self._assignment], self._mark, name)
        self._flights[ref] = (name, self._nodes)

    def ended(self) -> Iterator[tuple[str, Answer | _Lost]]:
        """What has ended within a moment."""
        import ray

        if not self._flights:
            time.sleep(LOOK_SECONDS)
            return
        ready, _ = ray.wait(list(self._flights), timeout=LOOK_SECONDS)
        for ref in ready:
            name, nodes = self._flights.pop(ref)
            yield name, _outcome(ref, nodes)

    def cancel(self, *, patience: float) -> None:
        """Ends what is in flight, and waits for that so many seconds. What waits comes first, and
        does nothing where a core that is freed begins with it all the same."""
        import ray

        with suppress(OSError):
            self._mark.unlink(missing_ok=True)
        refs = list(reversed(self._flights))
        self._flights.clear()
        with suppress(ray.exceptions.RayError):
            for ref in refs:
                ray.cancel(ref, force=True)
            if refs and patience:
                ray.wait(refs, num_returns=len(refs), timeout=patience)

    def _count(self) -> None:
        """Looks, now and then, at how large the cluster is."""
        now = time.monotonic()
        if now - self._counted < _SECONDS_BETWEEN_COUNTS:
            return
        nodes = alive()
        self._counted, self._nodes = now, frozenset(nodes)
        kind = "GPU" if self._options["num_gpus"] else "CPU"
        cores = sum(node["Resources"].get(kind, 0) for node in nodes.values())
        self._most = self._asked or max(1, _IN_FLIGHT_PER_CORE * int(cores))


def _within(
    max_memory_gb: float | None, workers: int | None, cost: Cost
) -> tuple[int | None, int | None]:
    """Tasks in flight and cache of each within the memory that the run may take; None: no limit."""
    if max_memory_gb is None:
        return workers, None
    limit, each = max_memory_gb * 2**30, WORKER_BYTES + cost.bytes
    bearable = max(1, int(limit // each))
    most = min(workers or bearable, bearable)
    return most, int(min(max(limit / most - each, 0), cost.cache_bytes))


def _outcome(ref: Any, nodes: frozenset[str]) -> Answer | _Lost:
    """What a task has answered, or how it was lost. Raises what is neither."""
    import ray
    from ray import exceptions

    try:
        answer: Answer = ray.get(ref)
        return answer
    except exceptions.OutOfMemoryError:
        return _Lost(how="its process was ended for lack of memory", counts=True, nodes=nodes)
    except exceptions.WorkerCrashedError:
        return _Lost(how="its process ended unexpectedly", counts=True, nodes=nodes)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, RefdepthError | MemoryError):
            raise error.cause from None
        raise UnavailableError(
            f"cannot run refdepth ({str(error).strip().splitlines()[-1]}).",
            subject=f"node {error.ip}",
            action="Install the same refdepth there, in the Python that Ray was started with.",
        ) from error
    except exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        return _Lost(how=f"its node was lost ({first})", counts=False, nodes=nodes)
