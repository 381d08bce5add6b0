"""The same work on a Ray cluster on the loopback: the same bytes, whatever happens to it."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from errands import Errand, tries
from fault_runs import (
    STAGES,
    Photos,
    Runner,
    difference,
    finished,
    made_again,
    make_photos,
    result,
    temporaries,
)

from refdepth.cli.main import run
from refdepth.errors import ConfigurationError, InputError, Interrupted, UnavailableError
from refdepth.pipeline import cluster, cluster_connection
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.cluster import RayExecutor
from refdepth.pipeline.config import RunInputs, RunRequest
from refdepth.pipeline.work import Finished, Watch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install refdepth[ray]"
)
PATIENCE = 90.0
MOST_SECONDS = 3.0
TESTS = Path(__file__).parents[1]
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # has Ray use 127.0.0.1 on Linux, too
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "PYTHONPATH": str(TESTS / "support"),  # where workers find the errands
}
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
"""Of a machine that says nothing any more; Ray's own patience is half a minute."""


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A head that does no work, and room for nodes of one core."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        running = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": QUICK_TO_NOTICE}
        )
        yield running
        running.shutdown()


@pytest.fixture
def nodes(ray_cluster: Any) -> list[Any]:
    """Two nodes, whatever became of them before."""
    for node in list(ray_cluster.worker_nodes):
        if node.all_processes["raylet"][0].process.poll() is not None:
            ray_cluster.worker_nodes.discard(node)
    while len(ray_cluster.worker_nodes) < 2:
        ray_cluster.add_node(num_cpus=1)
    return sorted(ray_cluster.worker_nodes, key=lambda node: node.node_id)


@pytest.fixture(scope="module")
def connected(ray_cluster: Any) -> Iterator[None]:
    """This process as a driver, which executors here then use."""
    import ray

    ray.init(ray_cluster.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def executor(connected: None, nodes: list[Any], tmp_path: Path) -> Iterator[RayExecutor]:
    made = executor_on(tmp_path)
    yield made
    made.close()
    assert temporaries(tmp_path) == []


def executor_on(folder: Path, **options: Any) -> RayExecutor:
    (folder / "photos").mkdir(exist_ok=True)
    (folder / "photos" / "a.png").write_bytes(b"not looked into")
    request = RunRequest(inputs=RunInputs(images=str(folder / "photos")))
    return RayExecutor("auto", workspace=folder, request=request, **options)


def done(executor: RayExecutor, folder: Path, *names: str, **options: Any) -> list[Finished[int]]:
    return list(executor.run(Errand(folder), names, watch(), **options))


def watch(cancellation: Cancellation | None = None) -> Watch:
    return Watch(cancellation=cancellation or Cancellation())


def at_work(node: Any) -> list[psutil.Process]:
    """The processes of a node that have an item at hand."""
    return [task for task in raylet_of(node).children() if "ray::refdepth" in task.cmdline()[0]]


def raylet_of(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def wait_until(true: Callable[[], Any]) -> None:
    patience = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < patience
        time.sleep(0.02)


def test_items_are_done_on_both_nodes_and_what_they_log_comes_back(
    executor: RayExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"slow-{number}" for number in range(8)]
    with caplog.at_level(logging.INFO, "refdepth"):
        items = done(executor, tmp_path, *names)
    assert {item.name for item in items} == set(names)
    assert len({item.result for item in items}) == 2
    assert all(f"process {item.result}" in item.place for item in items)
    assert {f"{name} is done" for name in names} <= set(caplog.messages)
    assert executor.peak_mb() > 0
    assert executor.peak_mb() == 0


def test_in_order_few_run_ahead_of_the_one_that_is_due(
    executor: RayExecutor, tmp_path: Path
) -> None:
    names = ["slow-0", *(f"quick-{number}" for number in range(40))]
    items = executor.run(Errand(tmp_path), names, watch(), in_order=True)
    assert next(items).name == "slow-0"
    assert len(list(tmp_path.glob("*.tries"))) <= 4
    assert [item.name for item in items] == names[1:]


def test_an_item_that_ends_its_process_twice_is_left_and_the_others_go_on(
    executor: RayExecutor, tmp_path: Path
) -> None:
    items = done(executor, tmp_path, "a", "kills-b", "killsonce-c", "d")
    failed = {item.name: item.failed for item in items if item.failed}
    assert failed == {"kills-b": ", then ".join(["its process ended unexpectedly"] * 2)}
    assert {item.name for item in items} == {"a", "kills-b", "killsonce-c", "d"}
    assert len(tries(tmp_path, "kills-b")) == len(tries(tmp_path, "killsonce-c")) == 2


def test_deaths_while_nodes_go_do_not_count_but_have_an_end(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    real = cluster_connection.alive
    monkeypatch.setattr(
        cluster, "alive", lambda: real() | {f"short-lived-{next(numbers)}": {"Resources": {}}}
    )
    monkeypatch.setattr(cluster, "MOST_TRIES", 4)
    monkeypatch.setattr(cluster, "_SECONDS_BETWEEN_COUNTS", 0.0)
    (item,) = done(executor, tmp_path, "kills-a")
    assert item.failed
    assert len(tries(tmp_path, "kills-a")) == 4


def test_what_an_item_raises_is_raised_here_as_itself(
    executor: RayExecutor, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        done(executor, tmp_path, "a", "refuses-b")
    assert (refused.value.subject, refused.value.action) == ("refuses-b", "Leave it out.")
    with pytest.raises(MemoryError) as refused_memory:
        done(executor, tmp_path, "memory")
    assert "errands.py" in refused_memory.value.__notes__[0]


def test_a_stop_ends_what_is_being_done(executor: RayExecutor, tmp_path: Path) -> None:
    cancellation = Cancellation()
    names = ["sleeps-a", "sleeps-b", "sleeps-c"]  # two cores take any two of them

    def begun() -> list[str]:
        return [name for name in names if tries(tmp_path, name)]

    def ask() -> None:
        wait_until(lambda: len(begun()) == 2)
        times.append(time.monotonic())
        cancellation.request()

    times: list[float] = []
    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(Interrupted):
        list(executor.run(Errand(tmp_path), names, watch(cancellation)))
    asking.join()
    assert time.monotonic() - times[0] < MOST_SECONDS
    pids = [pid for name in begun() for pid in tries(tmp_path, name)]
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    assert len(begun()) == 2


def test_an_item_that_begins_after_the_stop_does_nothing(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray may begin with it while it is being taken back; the work's mark has gone by then."""
    monkeypatch.setattr(cluster, "write_bytes", lambda path, content: None)
    with pytest.raises(Interrupted, match="not wanted"):
        done(executor, tmp_path, "a")
    assert tries(tmp_path, "a") == []


@pytest.mark.parametrize("how", ["taken away", "raylet killed", "power cut"])
def test_an_item_whose_node_is_gone_runs_elsewhere_and_that_counts_for_nothing(
    how: str, executor: RayExecutor, ray_cluster: Any, nodes: list[Any], tmp_path: Path
) -> None:
    """A process that has lost its raylet may still bring its item to an end."""
    name = "slow" if how == "raylet killed" else "sleepstwice"
    items = executor.run(Errand(tmp_path), [name], watch())
    found: list[Finished[int]] = []
    working = threading.Thread(target=lambda: found.extend(items))
    working.start()
    for number in range(1 if how == "raylet killed" else 2):
        wait_until(lambda number=number: len(tries(tmp_path, name)) > number)
        raylet = psutil.Process(tries(tmp_path, name)[-1]).parent()
        (node,) = (node for node in ray_cluster.worker_nodes if raylet_of(node) == raylet)
        if how == "taken away":
            ray_cluster.remove_node(node)
        else:
            lost = raylet.children() if how == "power cut" else []
            for process in [raylet, *lost]:
                process.kill()
            ray_cluster.worker_nodes.discard(node)
        ray_cluster.add_node(num_cpus=1)
    working.join(timeout=PATIENCE)
    assert [(item.name, item.failed) for item in found] == [(name, "")]
    assert len(tries(tmp_path, name)) == (1 if how == "raylet killed" else 3)


def test_a_node_that_does_not_see_the_workspace_is_named(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_connection, "write_bytes", lambda path, content: None)
    with pytest.raises(
        UnavailableError, match=r"node \S+ \(127\.0\.0\.1\): does not share the out"
    ):
        done(executor, tmp_path, "a")


def test_a_node_that_does_not_see_the_photos_is_named(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_connection, "_sample", lambda path: [("/elsewhere/a.png", 3)])
    with pytest.raises(UnavailableError, match=r"\(127\.0\.0\.1\): does not see /elsewhere/a\.png"):
        done(executor, tmp_path, "a")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", ["torch", "refdepth's own code"])
def test_a_node_with_another_version_is_named_also_when_it_joins_late(
    late: bool,
    what: str,
    executor: RayExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = cluster_connection.versions()
    monkeypatch.setattr(cluster_connection, "versions", lambda: ours | {what: "0.0.1"})
    if late:
        monkeypatch.setattr(cluster_connection, "_check_nodes", lambda expected, watch: None)
    with pytest.raises(UnavailableError) as different:
        done(executor, tmp_path, "a")
    said = str(different.value)
    assert re.match(r"node \S+ \(127\.0\.0\.1", said)
    assert f"has {what} {ours[what]}; where the command was given it is 0.0.1" in said
    assert tries(tmp_path, "a") == []


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "https://head:80", ""])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    request = RunRequest(inputs=RunInputs(images="/photos"))
    with pytest.raises(ConfigurationError):
        RayExecutor(address, workspace=tmp_path, request=request)


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "photos").mkdir()
    code = run(
        ["reconstruct", str(tmp_path / "photos"), str(tmp_path / "out"), "--cluster", "auto"]
    )
    assert code == 5
    assert "pip install refdepth[ray]" in capsys.readouterr().err


# Whole runs, each in a process of its own.


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, runner: Runner, photos: Photos) -> Path:
    """The workspace of a run in one process."""
    out = tmp_path_factory.mktemp("reference") / "out"
    ended = runner.run(photos.command(out, "--workers", "1"))
    assert ended.code == 0, ended.said
    return out


def plain_environment() -> dict[str, str]:
    """Without what the cluster of these tests needs."""
    return {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}


class Driver:
    """A command that works on the cluster."""

    def __init__(self, photos: Photos, out: Path, address: str, *more: str) -> None:
        self._said = out.with_name("said.txt")
        command = photos.command(out, "--cluster", address, *more)
        misleading = out.with_name("started_in")
        misleading.mkdir(exist_ok=True)
        for name in ("numba", "colorsys"):  # no process may import modules from here
            (misleading / f"{name}.py").write_text("raise ImportError(__file__)")
        with self._said.open("a") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "refdepth.cli.main", *command],
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=misleading,
                env=None if address != "local" else plain_environment(),
            )
        self._out = out

    def wait_for_matched(self, count: int) -> None:
        """Waits until so many views are through the first round."""
        first = self._out / "refine" / "first"
        wait_until(
            lambda: self.process.poll() is not None or len(list(first.glob("*.json"))) >= count
        )
        assert self.process.poll() is None, self.said()

    def end(self) -> int:
        """Waits for its end; its exit code."""
        return self.process.wait(timeout=PATIENCE)

    def said(self) -> str:
        return self._said.read_text()


def upto(reference: Path, out: Path, stage: str) -> Path:
    """A copy of the workspace in which `stage` and those after it are still to be made."""
    left = (*STAGES[STAGES.index(stage) :], "refdepth.log")
    return Path(shutil.copytree(reference, out, ignore=shutil.ignore_patterns(*left)))


def check(out: Path, reference: Path) -> None:
    """That the workspaces hold the same, but for what was asked."""
    assert difference(result(out), result(reference)) == ["refdepth.json"]
    assert temporaries(out) == []


def test_a_run_on_a_cluster_leaves_the_same_bytes(
    ray_cluster: Any, nodes: list[Any], photos: Photos, reference: Path, tmp_path: Path
) -> None:
    driver = Driver(photos, tmp_path / "out", ray_cluster.address)
    assert driver.end() == 0, driver.said()
    check(tmp_path / "out", reference)
    log = (tmp_path / "out" / "refdepth.log").read_text()
    assert len(set(re.findall(r"refining views: .* done by (.*) in", log))) == 2


def test_a_run_goes_on_when_a_process_is_killed_and_a_node_taken_away(
    ray_cluster: Any, nodes: list[Any], photos: Photos, reference: Path, tmp_path: Path
) -> None:
    out = upto(reference, tmp_path / "out", "refine")
    driver = Driver(photos, out, ray_cluster.address)
    driver.wait_for_matched(4)
    before = finished(out)
    wait_until(lambda: all(map(at_work, nodes)))
    at_work(nodes[1])[0].kill()
    ray_cluster.remove_node(nodes[0])
    assert driver.end() == 0, driver.said()
    assert made_again(before, finished(out)) == []
    log = (out / "refdepth.log").read_text()
    assert len(re.findall(r"view_00\d.png: its (?:node was lost|process ended)", log)) >= 2
    assert driver.said().count("raylet") == 0
    check(out, reference)


def test_the_same_command_goes_on_after_ctrl_c_and_after_the_driver_was_killed(
    ray_cluster: Any, nodes: list[Any], photos: Photos, reference: Path, tmp_path: Path
) -> None:
    out = upto(reference, tmp_path / "out", "refine")
    driver = Driver(photos, out, ray_cluster.address)
    driver.wait_for_matched(1)
    driver.process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    wait_until(lambda: "Go on with" in driver.said())
    assert time.monotonic() - asked < MOST_SECONDS
    assert driver.end() == 130
    driver = Driver(photos, out, ray_cluster.address)
    driver.wait_for_matched(4)
    driver.process.kill()
    assert driver.end() == -signal.SIGKILL
    before = finished(out)
    driver = Driver(photos, out, ray_cluster.address)
    assert driver.end() == 0, driver.said()
    assert made_again(before, finished(out)) == []
    check(out, reference)


def test_a_cluster_that_does_not_answer_is_named(photos: Photos, tmp_path: Path) -> None:
    driver = Driver(photos, tmp_path / "out", "127.0.0.1:1")
    started = time.monotonic()
    assert driver.end() == 5
    assert time.monotonic() - started < 20
    assert "refdepth: --cluster 127.0.0.1:1: no Ray cluster answers" in driver.said()


def test_a_cluster_for_the_run_listens_on_the_loopback_alone_and_leaves_nothing(
    photos: Photos, tmp_path: Path
) -> None:
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob("refdepth-ray-*"))
    driver = Driver(photos, tmp_path / "out", "local", "--until", "depth")
    command = psutil.Process(driver.process.pid)
    wait_until(lambda: (tmp_path / "out" / "prepare" / "manifest.json").exists())
    processes = [command, *command.children(recursive=True)]
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert any("raylet" in process.name() for process in processes)
    assert driver.end() == 0, driver.said()
    assert "Ray" not in driver.said()
    wait_until(lambda: not any(process.is_running() for process in processes))
    assert set(folder.glob("refdepth-ray-*")) == before
