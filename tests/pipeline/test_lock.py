from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refdepth.errors import WorkspaceBusyError
from refdepth.pipeline.lock import WorkspaceLock

HOLD = """
import sys, time
from pathlib import Path
from refdepth.pipeline.lock import WorkspaceLock
with WorkspaceLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_told_who_holds_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(WorkspaceBusyError, match=rf"process {holder.pid}\b"),
        WorkspaceLock(tmp_path),
    ):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    with WorkspaceLock(tmp_path):
        pass


def test_waiting_ends_when_the_owner_dies(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def on_wait(owner: str) -> None:
        told.append(owner)
        holder.kill()

    with WorkspaceLock(tmp_path, wait=True, on_wait=on_wait):
        assert str(holder.pid) in told[0]


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with WorkspaceLock(tmp_path) as lock:
            assert lock is not None
            assert str(os.getpid()) in (tmp_path / ".refdepth.lock").read_text()
