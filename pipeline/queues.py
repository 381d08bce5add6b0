"""In which order processes get items, and in which they are handed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
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
