"""SIGKILL at any moment: the same command goes on, nothing is made twice, and the end result is
that of an undisturbed run, byte for byte."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fault_runs import (
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

KILLED = -9
MOST_KILLS = 400


@dataclass
class Chain:
    """The same command again and again in one folder, killed each time, until it comes through."""

    runner: Runner
    command: list[str]
    out: Path
    kills: int = 0

    def step(self, *, kind: str, number: int, tear: bool) -> Ended:
        """One run, killed before its `number`-th event; checks what the kill has left."""
        before = finished(self.out)
        ended = self.runner.run(
            self.command, folder=str(self.out), kill_before=(kind, number), tear=tear
        )
        assert ended.code in (0, KILLED), ended.said
        self.kills += ended.code == KILLED
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
    assert chain.kills >= 60
    survived["kills at a write"] += chain.kills


def test_killed_at_random_moments(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    kills = random_kills(runner, photos.command(tmp_path / "out"), tmp_path / "out", seed=0, runs=8)
    check(tmp_path / "out", reference)
    survived["kills at a random moment"] += kills


def random_kills(
    runner: Runner, command: list[str], out: Path, *, seed: int, runs: int, most: float = 2.5
) -> int:
    """Kills `runs` runs at random moments, then lets one finish; how many were killed."""
    rng = np.random.default_rng(seed)
    kills = 0
    for _ in range(runs):
        before = finished(out)
        ended = runner.kill_after(float(rng.uniform(0.02, most)), command)
        assert ended.code in (0, KILLED), ended.said
        kills += ended.code == KILLED
        assert broken(out) == []
        assert made_again(before, finished(out)) == []
        if ended.code == 0:
            shutil.rmtree(out)
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    return kills
