"""In which order processes get items, and in which they are handed on."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Protocol

from refdepth.pipeline.work import Finished, Items, Result


class Queue(Protocol):
    """Who does what next."""

    def take(self, place: int) -> str | None:
        """The next name for the worker at `place`; None when there is none for now."""
        ...

    def put_back(self, name: str) -> None:
        """A name that is to be tried again."""
        ...

    def finished(self, name: str) -> None:
        """A name that is done with."""
        ...


class Runs:
    """Names in runs of neighbours, one a worker."""

    def __init__(self, names: Sequence[str], workers: int) -> None:
        bounds = [len(names) * place // workers for place in range(workers + 1)]
        self._runs = [deque(names[start:end]) for start, end in pairwise(bounds)]

    def take(self, place: int) -> str | None:
        """From the worker's own run; from the end of the longest where that is empty."""
        if self._runs[place]:
            return self._runs[place].popleft()
        longest = max(self._runs, key=len)
        return longest.pop() if longest else None

    def put_back(self, name: str) -> None:
        """To whoever has least left."""
        min(self._runs, key=len).appendleft(name)

    def finished(self, name: str) -> None:
        """Nothing waits for it."""


class InOrder:
    """Names in order, one further ahead of the first that is not done than there are workers."""

    def __init__(self, names: Sequence[str], workers: int) -> None:
        self._waiting = deque(enumerate(names))
        self._number = {name: number for number, name in enumerate(names)}
        self._open = dict.fromkeys(range(len(names)))
        self._ahead = workers + 1

    def take(self, place: int) -> str | None:
        """The first that waits, if it is its turn."""
        if not self._waiting or self._waiting[0][0] >= next(iter(self._open)) + self._ahead:
            return None
        return self._waiting.popleft()[1]

    def put_back(self, name: str) -> None:
        """First of all."""
        self._waiting.appendleft((self._number[name], name))

    def finished(self, name: str) -> None:
        """Lets others go ahead."""
        del self._open[self._number[name]]


class After:
    """Names that wait for others to be finished; of those that wait no more the first first."""

    def __init__(self, names: Sequence[str], after: Mapping[str, Sequence[str]]) -> None:
        """`after`: whom a name waits for, none of which waits for it in turn."""
        self._names = names
        self._number = {name: number for number, name in enumerate(names)}
        self._lacking: dict[str, set[str]] = {}
        self._freed: dict[str, list[str]] = {}
        self._ready: list[int] = []
        for name in names:
            lacking = {other for other in after.get(name, ()) if other in self._number}
            for other in lacking:
                self._freed.setdefault(other, []).append(name)
            if lacking:
                self._lacking[name] = lacking
            else:
                self.put_back(name)

    def take(self, place: int) -> str | None:
        """The first that waits for nobody."""
        return self._names[heapq.heappop(self._ready)] if self._ready else None

    def put_back(self, name: str) -> None:
        """To its place among those that wait for nobody."""
        heapq.heappush(self._ready, self._number[name])

    def finished(self, name: str) -> None:
        """Those that have waited for it alone are next."""
        for other in self._freed.pop(name, ()):
            self._lacking[other].remove(name)
            if not self._lacking[other]:
                del self._lacking[other]
                self.put_back(other)


def queue_of(
    names: Sequence[str],
    workers: int,
    *,
    in_order: bool,
    after: Mapping[str, Sequence[str]] | None,
) -> Queue:
    """The queue that keeps what is asked for."""
    if after is not None:
        return After(names, after)
    return InOrder(names, workers) if in_order else Runs(names, workers)


def sorted_by(items: Items[Result], names: Sequence[str]) -> Items[Result]:
    """The items in the order of `names`, each as soon as it is its turn."""
    early: dict[str, Finished[Result]] = {}
    due = iter(names)
    waited_for = next(due, None)
    with closing(items):
        for item in items:
            early[item.name] = item
            while waited_for in early:
                yield early.pop(waited_for)
                waited_for = next(due, None)
