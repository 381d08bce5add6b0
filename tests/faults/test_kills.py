"""SIGKILL at any moment: the same command goes on, nothing is made twice, and the end result is
that of an undisturbed run, byte for byte."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
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
    manifests,
    result,
    temporaries,
)

from refdepth.pipeline.engine import Engine
from refdepth.pipeline.files import read_arrays
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.workspace import Workspace

KILLED = -9
MOST_KILLS = 400


@dataclass
class Chain:
    """The same command again and again in one folder, killed each time, until it comes through."""

    runner: Runner
    command: list[str]
    out: Path
    kills: int = 0
    stages: set[str] = field(default_factory=set)
    """Those that were killed."""

    def step(self, *, kind: str, number: int, tear: bool) -> Ended:
        """One run, killed before its `number`-th event; checks what the kill has left."""
        before = finished(self.out)
        ended = self.runner.run(
            self.command, folder=str(self.out), kill_before=(kind, number), tear=tear
        )
        assert ended.code in (0, KILLED), ended.said
        if ended.code == KILLED:
            self.kills += 1
            self.stages.update(
                [stage for stage in STAGES if f"{stage}: started" in ended.said][-1:]
            )
        assert broken(self.out) == [], f"after kill {self.kills}"
        assert made_again(before, finished(self.out)) == [], f"after kill {self.kills}"
        return ended

    def run(self, *, kind: str, first: int, tear: bool) -> None:
        """Kills each run before the event `first`, or later where that made nothing new: so every
        event of the whole run is once the one that never came."""
        number, known, stages = first, result(self.out), 0
        while self.step(kind=kind, number=number, tear=tear).code == KILLED:
            assert self.kills < MOST_KILLS, "no progress"
            now, done = result(self.out), manifests(self.out)
            number = first if done > stages else number + (now == known)
            known, stages = now, done


def check(out: Path, reference: Path) -> None:
    assert difference(result(out), result(reference)) == []
    assert temporaries(out) == []


def test_killed_before_every_rename_with_the_last_file_torn(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    chain = Chain(runner, photos.command(tmp_path / "out"), tmp_path / "out")
    chain.run(kind="rename", first=2, tear=True)
    check(chain.out, reference)
    assert chain.kills >= 40
    assert chain.stages == set(STAGES)
    survived["kills at a write"] += chain.kills


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "first"), [("rename", 1), ("any", 3)])
def test_killed_before_every_change_of_the_workspace(
    kind: str,
    first: int,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    chain = Chain(runner, photos.command(tmp_path / "out"), tmp_path / "out")
    chain.run(kind=kind, first=first, tear=kind == "any")
    check(chain.out, reference)
    survived["kills at a write"] += chain.kills


@pytest.mark.parametrize(
    "number", [2, 5, *(pytest.param(n, marks=pytest.mark.faults) for n in (1, 3, 4, 6, 7))]
)
def test_killed_while_a_given_model_is_taken_over(
    number: int,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns(*STAGES[1:]))
    sfm = str(out / "sfm")
    ended = runner.run(photos.command(out), folder=sfm, kill_before=("any", number))
    assert ended.code == KILLED, ended.said
    assert runner.run(photos.command(out)).code == 0
    check(out, reference)
    survived["kills at a write"] += 1


def test_a_view_goes_on_from_its_checkpoint(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns("refine", "fuse"))
    folder = str(out / "refine" / "checkpoints")
    ended = runner.run(photos.command(out), folder=folder, kill_before=("rename", 2))
    assert ended.code == KILLED
    (checkpoint,) = (out / "refine" / "checkpoints").glob("[!.]*.npz")
    steps = len(read_arrays(checkpoint)["losses"])
    assert 0 < steps < 6
    workspace = Workspace(out)
    progress = Steps()
    Engine(workspace, workspace.request(), progress=progress).reconstruct(until="refine")
    assert progress.within_first_view[0] == pytest.approx((steps + 1) / 6)
    assert runner.run(photos.command(out)).code == 0
    check(out, reference)
    survived["kills at a write"] += 1


class Steps(Silent):
    """Notes how far the refinement of the first view is whenever it says so."""

    def __init__(self) -> None:
        self.within_first_view: list[float] = []

    def step(self, label: str, done: float, total: float | None) -> None:
        if label == "refining views" and 0 < done <= 1:
            self.within_first_view.append(done)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_torn_write_is_never_seen_unless_writes_are_not_atomic(
    atomic: bool, runner: Runner, photos: Photos, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    wrong: list[str] = []
    for number in range(12, 40, 3):
        job = {"folder": str(out), "kill_before": ("any", number), "tear": True}
        command = photos.command(out, "--until", "depth")
        ended = runner.run(command, break_writes=not atomic, **job)
        assert ended.code in (0, KILLED) or not atomic, ended.said
        wrong += broken(out)
        survived["kills at a write"] += atomic and ended.code == KILLED
    assert (wrong == []) == atomic, wrong


def test_killed_at_random_moments(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    kills = random_kills(
        runner, photos.command(tmp_path / "out"), tmp_path / "out", seed=0, kills=15
    )
    check(tmp_path / "out", reference)
    survived["kills at a random moment"] += kills


def random_kills(
    runner: Runner, command: list[str], out: Path, *, seed: int, kills: int, most: float = 2.5
) -> int:
    """Kills so many runs at random moments, the first within `most` seconds, then lets one finish;
    returns the number of kills."""
    rng = np.random.default_rng(seed)
    killed = 0
    while killed < kills:
        before = finished(out)
        ended = runner.kill_after(float(rng.uniform(0.02, most)), command)
        assert ended.code in (0, KILLED), ended.said
        assert broken(out) == []
        assert made_again(before, finished(out)) == []
        killed += ended.code == KILLED
        if ended.code == 0:  # the kill came too late
            most *= 0.8
            shutil.rmtree(out)
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    return killed


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
def test_killed_while_structure_from_motion_runs(
    seed: int, runner: Runner, larger: Photos, placed: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    command = larger.from_photos(out, "--until", "sfm")
    kills = random_kills(runner, command, out, seed=seed, kills=10, most=8.0)
    check(out, placed)
    survived["kills at a random moment"] += kills


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_killed_while_photos_that_look_alike_are_matched(
    runner: Runner, larger: Photos, tmp_path: Path, survived: Counter[str]
) -> None:
    settings = ("--until", "sfm", "--set", "sfm.matching=retrieval", "--set", "sfm.neighbours=3")
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    assert runner.run(larger.from_photos(undisturbed, *settings)).code == 0
    command = larger.from_photos(out, *settings)
    kills = random_kills(runner, command, out, seed=0, kills=8, most=10.0)
    check(out, undisturbed)
    survived["kills at a random moment"] += kills


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_at_many_random_moments(
    seed: int,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = tmp_path / "out"
    kills = random_kills(runner, photos.command(out), out, seed=seed, kills=20)
    check(out, reference)
    survived["kills at a random moment"] += kills
