"""Worker processes: the same results as without, whatever becomes of them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pool_works import Fatal, Hang, Keeping, Order, Raise, Shout, Slow, Threads

from refdepth.errors import InputError, Interrupted, ResourceError
from refdepth.pipeline import plan, workers
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.plan import plan_workers
from refdepth.pipeline.work import Cost, Watch
from refdepth.pipeline.workers import WorkerPool

NAMES = ["a", "b", "c", "d", "e", "f"]
PATIENCE = 20.0


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    found = WorkerPool(2)
    yield found
    found.close()


def watch(cancellation: Cancellation | None = None) -> Watch:
    return Watch(cancellation=cancellation or Cancellation())


def wait_for(condition, what: str) -> None:
    patience = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < patience, what
        time.sleep(0.02)


def test_all_items_are_done_by_processes_that_stay(pool: WorkerPool) -> None:
    first = {item.name: item.result for item in pool.run(Shout(), NAMES, watch())}
    assert {name: result[0] for name, result in first.items()} == {n: n.upper() for n in NAMES}
    processes = {result[1] for result in first.values()}
    assert os.getpid() not in processes
    again = {item.result[1] for item in pool.run(Shout(), NAMES, watch())}
    assert len(processes) == 2
    assert again <= processes


def test_processes_that_rest_stay_and_keep_nothing(pool: WorkerPool, tmp_path: Path) -> None:
    def kept() -> tuple[set[bool], set[int]]:
        results = [item.result for item in pool.run(Keeping(), NAMES, watch())]
        return {there for there, _ in results}, {process for _, process in results}

    list(pool.run(Shout(), NAMES, watch()))  # both have started
    before, first = kept()
    list(pool.run(Slow(tmp_path, seconds=0.3, steps=1), NAMES, watch()))  # both are opened anew
    again, _ = kept()
    pool.rest()
    rested, last = kept()
    assert (before, rested) == ({False}, {False})
    assert True in again
    assert last <= first


def test_neighbours_go_to_the_same_worker(pool: WorkerPool, tmp_path: Path) -> None:
    list(pool.run(Shout(), NAMES, watch()))  # both have started
    list(pool.run(Slow(tmp_path, seconds=0.3, steps=1), NAMES, watch()))
    by = {name: (tmp_path / name).read_text() for name in NAMES}
    assert by["a"] == by["b"] == by["c"] != by["d"] == by["e"] == by["f"]


def test_in_order_few_run_ahead_of_the_one_that_is_due(pool: WorkerPool) -> None:
    names = [f"a{number}" for number in range(20)]
    list(pool.run(Shout(), names[:2], watch()))
    items = list(pool.run(Order(), names, watch(), in_order=True))
    assert [item.name for item in items] == names
    began = [item.result for item in items]
    ended = began[0] + items[0].seconds
    ahead = [name for name, at in zip(names, began, strict=True) if at < ended]
    assert ahead == names[:3]  # one more than there are workers; the slow first one among them


def test_an_item_waits_for_those_it_comes_after(pool: WorkerPool) -> None:
    """`a0` takes long: what waits for it does, what does not goes ahead."""
    names = ["a0", "b", "c", "d"]
    list(pool.run(Shout(), names[:2], watch()))
    after = {"b": ["a0"], "d": ["b", "c"]}
    items = {item.name: item for item in pool.run(Order(), names, watch(), after=after)}
    began = {name: item.result for name, item in items.items()}
    ended = {name: began[name] + items[name].seconds for name in names}
    assert began["c"] < ended["a0"] <= began["b"]
    assert ended["b"] <= began["d"]


def test_an_item_whose_worker_dies_is_done_by_another(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "refdepth"):
        items = list(pool.run(Fatal(tmp_path, times=1), NAMES, watch()))
    assert sorted(item.name for item in items) == NAMES
    assert not any(item.failed for item in items)
    assert "c: its worker" in caplog.text
    assert "was killed (SIGKILL)" in caplog.text
    assert len(list(tmp_path.glob("c-*"))) == 2
    assert len(list(tmp_path.glob("[!c]-*"))) == 5  # nothing else was done twice


def test_an_item_that_ends_two_workers_is_left_and_the_others_are_done(
    pool: WorkerPool, tmp_path: Path
) -> None:
    items = {item.name: item for item in pool.run(Fatal(tmp_path, times=9), NAMES, watch())}
    assert sorted(items) == NAMES
    assert [name for name, item in items.items() if item.failed] == ["c"]
    assert items["c"].failed == "was killed (SIGKILL), then was killed (SIGKILL)"
    assert len(list(tmp_path.glob("c-*"))) == 2


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("input", InputError, "b.jpg: is no picture. Leave it out."),
        ("memory", MemoryError, "no more"),
        ("odd", RuntimeError, "OddError: this and that"),
    ],
)
def test_an_error_comes_as_it_was_raised(
    pool: WorkerPool, kind: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        list(pool.run(Raise(kind), NAMES, watch()))
    assert str(caught.value) == said
    assert "pool_works.py" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", [Slow, Hang])
def test_a_stop_ends_workers_soon_whatever_they_do(
    pool: WorkerPool, tmp_path: Path, kind: type[Slow]
) -> None:
    cancellation = Cancellation()
    files = [tmp_path / "a", tmp_path / "b"]
    asked: list[float] = []

    def stop() -> None:
        wait_for(lambda: all(f.exists() and f.read_text() for f in files), "no start")
        asked.append(time.monotonic())
        cancellation.request()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted):
        list(pool.run(kind(tmp_path), ["a", "b"], watch(cancellation)))
    assert time.monotonic() - asked[0] < PATIENCE / 4
    thread.join()
    assert not any(psutil.pid_exists(int(file.read_text())) for file in files)
    assert not list(tmp_path.glob("*.done"))


def test_who_wants_no_more_items_stops_the_work(pool: WorkerPool, tmp_path: Path) -> None:
    items = pool.run(Slow(tmp_path, seconds=0.2), NAMES, watch())
    next(items)
    items.close()
    time.sleep(0.5)
    assert len(list(tmp_path.glob("?"))) <= 4
    assert {item.name for item in pool.run(Shout(), NAMES, watch())} == set(NAMES)


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path[:] = {sys.path!r}
        from pathlib import Path
        from pool_works import Hang
        from refdepth.pipeline.cancellation import Cancellation
        from refdepth.pipeline.work import Watch
        from refdepth.pipeline.workers import WorkerPool
        list(WorkerPool(2).run(Hang(Path({str(tmp_path)!r})), ["a", "b"],
                               Watch(cancellation=Cancellation())))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    files = [tmp_path / "a", tmp_path / "b"]
    wait_for(lambda: all(f.exists() and f.read_text() for f in files), "no start")
    pids = [int(file.read_text()) for file in files]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), "orphans")


def test_signals_of_the_terminal_are_for_the_process_that_started_them(
    pool: WorkerPool, tmp_path: Path
) -> None:
    items = pool.run(Slow(tmp_path, seconds=1.0), ["a", "b"], watch())
    files = [tmp_path / "a", tmp_path / "b"]

    def interrupt() -> None:
        wait_for(lambda: all(f.exists() and f.read_text() for f in files), "no start")
        for file in files:
            pid = int(file.read_text())
            assert os.getpgid(pid) != os.getpgid(0)
            os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert {item.name for item in items} == {"a", "b"}
    thread.join()


def test_each_worker_uses_its_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    pool = WorkerPool(2)
    try:
        assert {item.result for item in pool.run(Threads(), NAMES, watch())} == {(2, "2")}
    finally:
        pool.close()


def test_workers_that_cannot_start_are_not_tried_for_ever(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match="before it could begin"):
        list(pool.run(Shout(), NAMES, watch()))


GB = 1 << 30
BASE = {"asked": None, "running": 0, "cores": 8, "max_memory_gb": None}


@pytest.mark.parametrize(
    ("cost", "items", "changes", "expected"),
    [
        (Cost(seconds=10), 100, {}, (8, 1)),
        (Cost(seconds=10), 3, {}, (3, 2)),  # no more workers than items
        (Cost(seconds=0.01), 100, {}, (1, 8)),  # not worth starting one
        (Cost(seconds=0.01), 100, {"running": 8}, (8, 1)),  # but they are there
        (Cost(seconds=10), 100, {"asked": 3}, (3, 2)),
        (Cost(seconds=0), 100, {"asked": 3}, (3, 2)),
        (Cost(seconds=10), 2, {"asked": 30}, (2, 4)),
        (Cost(seconds=10, gpu=True), 100, {}, (1, 8)),
        (Cost(seconds=10, bytes=200 * GB), 100, {}, (1, 8)),
    ],
)
def test_how_many_workers(cost: Cost, items: int, changes: dict, expected: tuple) -> None:
    found = plan_workers(cost, items, **{**BASE, **changes})
    assert (found.workers, found.threads) == expected


def test_workers_and_caches_keep_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resident:
        rss = GB // 2

    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: Resident)
    each = GB // 4
    monkeypatch.setattr(plan, "WORKER_BYTES", each)
    cost = Cost(seconds=10, bytes=each, cache_bytes=10 * GB)
    found = plan_workers(cost, 100, **{**BASE, "max_memory_gb": 2.25})
    assert found.workers == 3  # 0.5 + 3 x (0.25 + 0.25) leaves 0.25
    assert found.cache_bytes == pytest.approx(GB / 12, abs=2)
    asked = plan_workers(cost, 100, **{**BASE, "max_memory_gb": 2.25, "asked": 8})
    assert asked.workers == 3
    small = plan_workers(cost, 100, **{**BASE, "max_memory_gb": 0.1})
    assert (small.workers, small.cache_bytes) == (1, 0)


def test_each_gpu_gets_a_worker_that_sees_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert plan_workers(Cost(seconds=10, gpu=True), 100, **BASE).workers == 2
    seen = [workers._environment(number, 1)["CUDA_VISIBLE_DEVICES"] for number in (1, 2)]
    assert seen == ["7,4", "4,7"]
