"""Work done in this process, and what is lent to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from refdepth.errors import Interrupted
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import SerialExecutor
from refdepth.pipeline.work import Cost, Desk, Watch

NOTHING = Cost()


@dataclass(frozen=True)
class CacheSize:
    """What the process lends for a cache."""

    cost: Cost

    def open(self, desk: Desk) -> Callable[[str], int]:
        return lambda name: desk.cache_bytes


@dataclass(frozen=True)
class Counting:
    """How often a thing was made that works share."""

    made: list[str]
    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], int]:
        desk.keep("shared", lambda: self.made.append("shared"))
        return lambda name: len(self.made)


@dataclass(frozen=True)
class Halves:
    """Each item takes two steps."""

    cost: Cost = NOTHING

    def open(self, desk: Desk) -> Callable[[str], str]:
        def make(name: str) -> str:
            desk.step(0.5)
            return name.upper()

        return make


def watch(cancellation: Cancellation | None = None) -> Watch:
    return Watch(cancellation=cancellation or Cancellation())


@pytest.mark.parametrize(
    ("gb", "wanted", "lent"),
    [(1.0, 1 << 40, 1 << 28), (1000.0, 1 << 40, 1 << 30), (1.0, 5000, 5000)],
)
def test_caches_keep_within_the_memory_and_take_no_more_than_helps(
    gb: float, wanted: int, lent: int
) -> None:
    work = CacheSize(Cost(cache_bytes=wanted))
    (done,) = SerialExecutor(gb).run(work, ["a"], watch())
    assert done.result == lent


def test_what_works_share_is_made_once() -> None:
    executor, made = SerialExecutor(), []
    for _ in range(2):
        results = [item.result for item in executor.run(Counting(made), ["a", "b"], watch())]
        assert results == [1, 1]
    executor.close()
    list(executor.run(Counting(made), ["a"], watch()))
    assert len(made) == 2


def test_progress_counts_the_share_of_the_item_at_hand() -> None:
    seen: list[float] = []
    found = SerialExecutor().run(
        Halves(), ["a", "b"], Watch(cancellation=Cancellation(), progress=seen.append)
    )
    assert [item.result for item in found] == ["A", "B"]
    assert seen == [0.0, 0.0, 0.5, 1.0, 1.5]


def test_a_stop_is_seen_between_the_steps_of_an_item() -> None:
    cancellation = Cancellation()
    items = SerialExecutor().run(Halves(), ["a", "b"], watch(cancellation))
    assert next(items).result == "A"
    cancellation.request()
    with pytest.raises(Interrupted):
        next(items)
