"""Who does the work on the views: a plain function mapped over plain tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Applies a function to tasks, results in the order of the tasks."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yields results as they come; takes the next task only when it can work on it, so that
        tasks holding pictures do not pile up."""
        ...


class SerialExecutor:
    """One task after the other in this process."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yields each result before it takes the next task."""
        for task in tasks:
            yield function(task)
