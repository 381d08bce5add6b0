"""Runs with worker processes: whichever is killed, the run goes on or the same command does, to the
same bytes; nothing finished is made twice; nobody is left over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from fault_runs import (
    STAGES,
    Ended,
    Photos,
    Runner,
    broken,
    difference,
    finished,
    made_again,
    make_photos,
    result,
    temporaries,
)

from refdepth.pipeline.workspace import REQUEST_NAME

KILLED = -9
RESOURCE = 7
MOST_SECONDS = 5.0


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Photos enough to keep workers busy for a while."""
    return make_photos(tmp_path_factory.mktemp("several"), views=4, width=128, height=96)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, runner: Runner, several: Photos) -> Path:
    """The workspace of an undisturbed run in one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    ended = runner.run(several.command(out, "--workers", "1"))
    assert ended.code == 0, ended.said
    return out


def unlike(out: Path, reference: Path) -> list[str]:
    """Files that differ, but for the request, which holds the number of workers."""
    return [name for name in difference(result(out), result(reference)) if name != REQUEST_NAME]


def family(pid: int) -> list[psutil.Process]:
    """The processes that a run has started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("workers", ["2", "3"])
def test_any_number_of_workers_gives_the_same_bytes(
    workers: str, runner: Runner, several: Photos, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert runner.run(several.command(out, "--workers", workers)).code == 0
    assert unlike(out, alone) == []
    assert temporaries(out) == []
    assert "by worker 2" in (out / "refdepth.log").read_text()


@dataclass
class Kills:
    """Runs of one command in which one process, whichever, is killed at a random moment."""

    runner: Runner
    photos: Photos
    reference: Path
    out: Path
    random: np.random.Generator
    seconds: float = 6.0
    """How late a kill may come."""
    kills: Counter[str] = field(default_factory=Counter)

    def step(self) -> None:
        """One run with one kill; from the start again where the last one has come through."""
        before = finished(self.out) if self.out.exists() else {}
        pid = self.runner.start(self.photos.command(self.out, "--workers", "2"))
        time.sleep(self.random.uniform(0, self.seconds))
        children = family(pid)
        victim = self._victim(pid, children)
        before |= finished(self.out) if self.out.exists() else {}
        stage = self._stage()
        if victim is not None:
            victim.kill()
            self.kills[f"{'the run' if victim.pid == pid else 'a worker'} in {stage}"] += 1
        ended = self.runner.wait()
        assert gone([*children, *family(pid)], MOST_SECONDS), "left over"
        assert broken(self.out) == []
        assert made_again(before, finished(self.out)) == []
        if (
            stage == "sfm" and ended.code > 0
        ):  # pycolmap's own process: said, and the command goes on
            return
        self._check(ended, victim is not None and victim.pid == pid)

    def _victim(self, pid: int, children: list[psutil.Process]) -> psutil.Process | None:
        try:
            everyone = [psutil.Process(pid), *children]
            victim = everyone[self.random.integers(len(everyone))]
            return victim if victim.is_running() else None
        except psutil.NoSuchProcess:
            return None

    def _stage(self) -> str:
        started = [s for s in STAGES if f"{s}: started" in self.runner.said()]
        return started[-1] if started else "the start"

    def _check(self, ended: Ended, main_killed: bool) -> None:
        if ended.code == KILLED and main_killed:
            return
        assert ended.code == 0, ended.said
        assert unlike(self.out, self.reference) == []
        assert temporaries(self.out) == []
        shutil.rmtree(self.out)
        self.seconds = max(1.0, 0.9 * ended.seconds)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("seed", "kills"), [(0, 4), pytest.param(1, 50, marks=pytest.mark.faults)])
def test_whichever_process_is_killed_the_end_is_the_same(
    seed: int,
    kills: int,
    runner: Runner,
    several: Photos,
    alone: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    chain = Kills(runner, several, alone, tmp_path / "out", np.random.default_rng(seed))
    while chain.kills.total() < kills:
        chain.step()
    for _ in range(2):
        if not chain.out.exists():
            break
        assert runner.run(several.command(chain.out, "--workers", "2")).code == 0
        assert unlike(chain.out, alone) == []
    survived["kills of one of several processes"] += chain.kills.total()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_workers_and_loses_nothing(
    number: int, runner: Runner, several: Photos, alone: Path, tmp_path: Path
) -> None:
    out = Path(
        shutil.copytree(alone, tmp_path / "out", ignore=shutil.ignore_patterns("refine", "fuse"))
    )
    command = several.command(out, "--workers", "2")
    pid = runner.start(command)
    while not list(out.glob("refine/first/*.json")):
        assert runner.running(), runner.said()
    workers = family(pid)
    assert len(workers) == 2
    os.kill(pid, number)
    asked = time.monotonic()
    ended = runner.wait()
    assert gone(workers, MOST_SECONDS)
    assert time.monotonic() - asked < MOST_SECONDS
    assert ended.code == 130, ended.said
    assert ended.said.count("Go on with: ") == 1
    assert broken(out) == []
    before = finished(out)
    assert runner.run(command).code == 0
    assert made_again(before, finished(out)) == []
    assert unlike(out, alone) == []
    assert temporaries(out) == []


def test_a_second_signal_ends_all_at_once(
    runner: Runner, several: Photos, alone: Path, tmp_path: Path
) -> None:
    out = Path(
        shutil.copytree(alone, tmp_path / "out", ignore=shutil.ignore_patterns("refine", "fuse"))
    )
    pid = runner.start(several.command(out, "--workers", "2"))
    while not list(out.glob("refine/first/*.json")):
        assert runner.running(), runner.said()
    workers = family(pid)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGINT)
    asked = time.monotonic()
    assert runner.wait().code == 130
    assert time.monotonic() - asked < 1.5
    assert gone(workers, MOST_SECONDS)
    assert broken(out) == []
