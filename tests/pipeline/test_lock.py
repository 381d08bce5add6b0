from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from refdepth.cli.session import working_on
from refdepth.errors import Interrupted, ResourceError, WorkspaceBusyError
from refdepth.pipeline.config import RunInputs, RunRequest
from refdepth.pipeline.lock import WorkspaceLock
from refdepth.pipeline.workspace import Workspace

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


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refuse(number: int) -> Callable[[int, int], None]:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_waiting_that_is_broken_off_leaves_no_file_open(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    def stop() -> None:
        raise Interrupted("asked to stop")

    before = open_files()
    for _ in range(3):
        with pytest.raises(Interrupted), WorkspaceLock(tmp_path, wait=True, check=stop):
            pass
    assert open_files() == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_unguarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = open_files()
    with WorkspaceLock(tmp_path) as lock:
        assert lock.guarded
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    with WorkspaceLock(tmp_path) as lock:
        assert not lock.guarded
        assert str(os.getpid()) in (tmp_path / ".refdepth.lock").read_text()
    assert open_files() == before


def test_a_lock_that_fails_otherwise_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(ResourceError, match=str(tmp_path)), WorkspaceLock(tmp_path):
        pass
    assert open_files() == before


def test_commands_say_that_nothing_keeps_a_second_one_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    request = RunRequest(inputs=RunInputs(images=str(tmp_path)))
    with working_on(
        Workspace(tmp_path), request, quiet=True, debug=False, wait=False, go_on="again"
    ):
        pass
    assert "has no locks" in capsys.readouterr().out
    assert "has no locks" in (tmp_path / "refdepth.log").read_text()
