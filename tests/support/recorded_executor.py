"""An executor that remembers what it was asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.work import Items, Result, Watch, Work


class RecordedExecutor:
    """Hands everything to another executor."""

    def __init__(self, inner: Executor | None = None) -> None:
        self.inner: Executor = inner or SerialExecutor()
        self.done: list[tuple[str, str]] = []
        """Kind of work and name, in the order they were finished."""
        self.places: set[str] = set()
        """Who did it; empty for this process."""
        self.closed = False

    def run(
        self,
        work: Work[Result],
        names: Sequence[str],
        watch: Watch,
        *,
        in_order: bool = False,
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Items[Result]:
        for item in self.inner.run(work, names, watch, in_order=in_order, after=after):
            self.done.append((type(work).__name__, item.name))
            self.places.add(item.place)
            yield item

    def peak_mb(self) -> float:
        return self.inner.peak_mb()

    def rest(self) -> None:
        self.inner.rest()

    def close(self) -> None:
        self.closed = True
        self.inner.close()
