"""Two commands on one output folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fault_runs import Photos, Runner

from refdepth.pipeline.lock import WorkspaceLock

ROOT = Path(__file__).parents[2]
BUSY = 6


def test_the_second_command_is_told_who_holds_the_folder(
    runner: Runner, photos: Photos, workspace: Path, survived: Counter[str]
) -> None:
    with WorkspaceLock(workspace):
        ended = runner.run(photos.command(workspace))
    assert ended.code == BUSY, ended.said
    assert f"in use by process {os.getpid()} on " in ended.said
    assert "--wait" in ended.said
    survived["two owners"] += 1


def test_a_waiting_command_goes_on_when_the_folder_is_free(
    runner: Runner, photos: Photos, workspace: Path, survived: Counter[str]
) -> None:
    with WorkspaceLock(workspace):
        runner.start(photos.command(workspace, "--wait"))
        while "Waiting for process" not in runner.said():
            assert runner.running(), runner.said()
    ended = runner.wait()
    assert ended.code == 0, ended.said
    survived["two owners"] += 1


def test_a_waiting_command_can_be_interrupted(
    runner: Runner, photos: Photos, workspace: Path, survived: Counter[str]
) -> None:
    with WorkspaceLock(workspace):
        pid = runner.start(photos.command(workspace, "--wait"))
        while "Waiting for process" not in runner.said():
            assert runner.running(), runner.said()
        os.kill(pid, signal.SIGINT)
        ended = runner.wait()
    assert ended.code == 130, ended.said
    survived["interrupts"] += 1


def test_a_killed_owner_leaves_the_folder_free(
    runner: Runner, photos: Photos, workspace: Path, survived: Counter[str]
) -> None:
    hold = "import sys, time; from pathlib import Path\n"
    hold += "from refdepth.pipeline.lock import WorkspaceLock\n"
    hold += "with WorkspaceLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(workspace)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        owner.kill()
        owner.wait()
        assert runner.run(photos.command(workspace)).code == 0
    survived["two owners"] += 1
