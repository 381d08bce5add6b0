"""Has a work done for each of a list of names, and says what has become of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from refdepth.errors import StageError
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.work import Finished, Result, Watch, Work


def perform(
    executor: Executor,
    work: Work[Result],
    names: Sequence[str],
    watch: Watch,
    *,
    finished: Callable[[Finished[Any]], None] = lambda item: None,
) -> dict[str, Result]:
    """What `work` hands back for each of `names`, in no particular order. `finished` is told of
    each item.

    Raises `StageError` where items ended the processes that tried them, after all others are done.
    """
    results: dict[str, Result] = {}
    failed: dict[str, str] = {}
    with closing(executor.run(work, names, watch)) as items:
        for item in items:
            finished(item)
            if item.failed:
                failed[item.name] = item.failed
            else:
                results[item.name] = item.result  # type: ignore[assignment]
    if failed:
        raise lost(failed)
    return results


def lost(failed: Mapping[str, str]) -> StageError:
    """The error about items that ended the processes that tried them: how, by name."""
    name, how = next(iter(failed.items()))
    more = f", and so did those of {len(failed) - 1} more" if len(failed) > 1 else ""
    return StageError(
        f"the process that worked on it {how}{more}. What is finished is saved.",
        subject=name,
        action="Run the same command again, with more memory or fewer --workers; or leave the photo"
        " out.",
    )
