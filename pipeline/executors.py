"""Who does the work on photos and views: this process, processes beside it, or a cluster."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from refdepth.pipeline.environment import release_freed_memory
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.work import Desk, Finished, Items, Result, Watch, Work


class Executor(Protocol):
    """Does works. Results do not depend on which executor it is."""

    def run(
        self,
        work: Work[Result],
        names: Sequence[str],
        watch: Watch,
        *,
        in_order: bool = False,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Items[Result]:
        """Does each item; yields them as they are done, or `in_order` of their names: then few run
        ahead of the one that is due. An item is begun when those are finished that `after` says of
        it, which come before it in `names`.

        An error that an item raises ends all of it and is raised here. An item that has ended two
        processes is yielded as failed, and the others go on. Raises `Interrupted` soon after a stop
        is asked for.
        """
        ...

    def peak_mb(self) -> float:
        """Largest memory, in MiB, of the other processes, summed, since this was last asked."""
        ...

    def rest(self) -> None:
        """Lets go of what works have left, in all processes: what comes next shares nothing with
        them."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


class SerialExecutor:
    """One item after the other in this process."""

    def __init__(self, max_memory_gb: float | None = None) -> None:
        self._max_memory_gb = max_memory_gb
        self._kept: dict[Hashable, Any] = {}

    def run(
        self,
        work: Work[Result],
        names: Sequence[str],
        watch: Watch,
        *,
        in_order: bool = False,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Items[Result]:
        """In the order of `names`, always."""
        if not names:
            return
        done = 0

        def step(share: float) -> None:
            watch.cancellation.check()
            watch.progress(done + share)

        step(0.0)
        cache = min(MemoryBudget.of(self._max_memory_gb).cache, work.cost.cache_bytes)
        make = work.open(
            Desk(cancellation=watch.cancellation, step=step, cache_bytes=cache, kept=self._kept)
        )
        for name in names:
            step(0.0)
            started = time.perf_counter()
            result = make(name)
            done += 1
            yield Finished(name=name, result=result, seconds=time.perf_counter() - started)

    def peak_mb(self) -> float:
        """None: there are no others."""
        return 0.0

    def rest(self) -> None:
        """Lets go of what works have left."""
        self._kept.clear()
        release_freed_memory()

    def close(self) -> None:
        """The same."""
        self.rest()
