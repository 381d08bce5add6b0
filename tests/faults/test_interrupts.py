"""Ctrl-C and SIGTERM: exit code 130 within 3 s, one line on how to go on, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

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
    result,
    temporaries,
)
from tiny_checkpoints import save_depth_anything

MOST_SECONDS = 3.0
PATIENCE = 60.0


def upto(reference: Path, out: Path, stage: str) -> Path:
    """A copy of the finished workspace in which `stage` and those after it are still to be made."""
    left = STAGES[STAGES.index(stage) :]
    return Path(shutil.copytree(reference, out, ignore=shutil.ignore_patterns(*left)))


def interrupt(
    runner: Runner, command: list[str], stage: str, *signals: int, pace: float, after: float = 0.3
) -> Ended:
    """Runs until `stage` is at work, then sends `signals`; `seconds` count from the last one."""
    pid = runner.start(command, pace=pace)
    patience = time.monotonic() + PATIENCE
    while "at work" not in runner.said().partition(f"{stage}: started")[2]:
        assert time.monotonic() < patience, runner.said()
        time.sleep(0.02)
    for number in signals:
        time.sleep(after)
        os.kill(pid, number)
    asked = time.monotonic()
    ended = runner.wait()
    return Ended(code=ended.code, said=ended.said, seconds=time.monotonic() - asked)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("prepare", signal.SIGINT),
        ("sfm", signal.SIGTERM),
        ("depth", signal.SIGINT),
        ("scale", signal.SIGTERM),
        ("refine", signal.SIGINT),
        ("refine", signal.SIGTERM),
        ("fuse", signal.SIGINT),
    ],
)
def test_a_signal_stops_a_stage_and_the_same_command_goes_on(
    stage: str,
    number: int,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = upto(reference, tmp_path / "out", stage)
    command = photos.command(out)
    ended = interrupt(runner, command, stage, number, pace=0.25)
    assert ended.code == 130, ended.said
    assert ended.seconds < MOST_SECONDS
    assert ended.said.count("Go on with: ") == 1
    assert "Traceback" not in ended.said
    assert broken(out) == []
    before = finished(out)
    assert runner.run(command).code == 0
    assert made_again(before, finished(out)) == []
    assert difference(result(out), result(reference)) == []
    assert temporaries(out) == []
    survived["interrupts"] += 1


def workers(parent: int) -> list[psutil.Process]:
    """Child processes in which pycolmap is at work."""
    return psutil.Process(parent).children(recursive=True)


STEPS = ("extract", "match", "map", "undistort")


@pytest.mark.parametrize(
    "step",
    [step if step == "match" else pytest.param(step, marks=pytest.mark.faults) for step in STEPS],
)
def test_a_signal_stops_pycolmap(
    step: str,
    runner: Runner,
    larger: Photos,
    placed: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    """Each of its steps is a child process of its own."""
    out = tmp_path / "out"
    command = larger.from_photos(out, "--until", "sfm")
    pid = runner.start(command)
    seen: dict[int, psutil.Process] = {}
    while len(seen) <= STEPS.index(step):
        assert runner.running(), runner.said()
        seen |= {worker.pid: worker for worker in workers(pid)}
    time.sleep(0.3)
    asked = time.monotonic()
    os.kill(pid, signal.SIGINT)
    ended = runner.wait()
    assert ended.code == 130, ended.said
    assert time.monotonic() - asked < MOST_SECONDS
    _, alive = psutil.wait_procs(seen.values(), timeout=5)
    assert not alive
    assert runner.run(command).code == 0
    assert difference(result(out), result(placed)) == []
    survived["interrupts"] += 1


def test_pycolmap_killed_is_no_fault_of_the_photos_and_the_command_goes_on(
    runner: Runner, larger: Photos, placed: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    command = larger.from_photos(out, "--until", "sfm")
    pid = runner.start(command)
    while not (found := workers(pid)):
        assert runner.running(), runner.said()
    time.sleep(0.3)
    found[0].kill()
    ended = runner.wait()
    assert ended.code == 7, ended.said
    assert "was killed" in ended.said
    assert broken(out) == []
    assert runner.run(command).code == 0
    assert difference(result(out), result(placed)) == []
    survived["kills at a random moment"] += 1


def test_a_signal_stops_a_network(
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    network = tmp_path / "network"
    save_depth_anything(network, layers=40, size=1120)  # many seconds a photo
    out = upto(reference, tmp_path / "out", "depth")
    command = photos.command(out)
    command[command.index("sweep")] = str(network)
    pid = runner.start(command)
    while "loaded" not in (out / "refdepth.log").read_text():
        assert runner.running(), runner.said()
    time.sleep(1)
    asked = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    ended = runner.wait()
    assert ended.code == 130, ended.said
    assert time.monotonic() - asked < MOST_SECONDS
    assert "Go on with: " in ended.said
    assert broken(out) == []
    survived["interrupts"] += 1


@pytest.mark.parametrize("stage", ["depth", "refine"])
def test_a_stage_that_hangs_is_ended_all_the_same(
    stage: str,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = upto(reference, tmp_path / "out", stage)
    ended = interrupt(runner, photos.command(out), stage, signal.SIGTERM, pace=30)
    assert ended.code == 130, ended.said
    assert ended.seconds < MOST_SECONDS
    assert "Go on with: " in ended.said
    assert runner.run(photos.command(out)).code == 0
    assert difference(result(out), result(reference)) == []
    survived["interrupts"] += 1


@pytest.mark.parametrize(
    "stage",
    [
        "refine",
        *(
            pytest.param(s, marks=pytest.mark.faults)
            for s in ("prepare", "sfm", "depth", "scale", "fuse")
        ),
    ],
)
def test_a_second_signal_stops_at_once(
    stage: str,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = upto(reference, tmp_path / "out", stage)
    command = photos.command(out)
    ended = interrupt(runner, command, stage, signal.SIGINT, signal.SIGINT, pace=30)
    assert ended.code == 130, ended.said
    assert ended.seconds < 1.0
    assert "Go on with: " in ended.said
    assert runner.run(command).code == 0
    assert difference(result(out), result(reference)) == []
    survived["interrupts"] += 1
