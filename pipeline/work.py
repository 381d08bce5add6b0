"""What a stage does with each of its items, in a form that any process can be told.

A stage describes its work as a small object of paths and settings (`Work`), never of pictures. The
process that gets it opens it once (reads the scene, loads a network) and then does items by name.
Each item writes its own artifact and hands back a small record, so it does not matter which process
did it, nor what became of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from refdepth.pipeline.cancellation import Cancellation

Value = TypeVar("Value")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one item takes, roughly. No result depends on it."""

    seconds: float = 0.0
    """Of one core. Processes are started only where there is something to gain."""
    bytes: int = 0
    """Memory at work, beside a process with its libraries."""
    cache_bytes: int = 0
    """What of earlier items is worth keeping for later ones."""
    gpu: float = 0.0
    """Share of a GPU that an item takes where a GPU does most of it: as many processes."""


@dataclass(kw_only=True)
class Desk:
    """What a process lends to the work it does."""

    cancellation: Cancellation
    step: Callable[[float], None]
    """Told the share of the item at hand that is done; raises `Interrupted` when to stop."""
    cache_bytes: int
    """Memory for what is kept between items. No result depends on it."""
    kept: dict[Hashable, Any] = field(default_factory=dict)
    """What a work has left for later ones in the same process, by its key."""

    def keep(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """What `make` returned for `key` before, in this process, or returns now: for what several
        works of a run share. `key` has to hold all that it was made from. What was kept under
        another key goes: works follow each other, and what one does not want none after it will."""
        if key not in self.kept:
            self.kept.clear()
            self.kept[key] = make()
        found: Value = self.kept[key]
        return found


class Work(Protocol[Result_co]):
    """What is to be done with each item of a kind. Can be pickled; equal works are one."""

    @property
    def cost(self) -> Cost:
        """What one item takes."""
        ...

    def open(self, desk: Desk) -> Callable[[str], Result_co]:
        """Gets ready in the process that is to do it. What is returned makes the item of a name, or
        finds that it is made already, and returns its record."""
        ...


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[Result]):
    """An item that nobody works on any more."""

    name: str
    result: Result | None
    """None where it has failed."""
    failed: str = ""
    """How each process ended that tried it; empty: it is done."""
    place: str = ""
    """Who did it."""
    seconds: float = 0.0


Items: TypeAlias = Generator[Finished[Result], None, None]
"""Items as they are done; closing it ends the work on the others."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks on while items are done."""

    cancellation: Cancellation
    progress: Callable[[float], None] = field(default=lambda done: None)
    """Told how many items are done, those at hand by their share."""
