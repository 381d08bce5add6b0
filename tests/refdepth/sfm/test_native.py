"""pycolmap's calls in a child process: stopped at once, quiet, and gone with their parent."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from refdepth.errors import Interrupted, ResourceError, StageError
from refdepth.sfm.native import run_step


def workers(parent: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "refdepth.sfm.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def start_work(photo_set, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that undistorts the photos again and again, caught while a child is at work."""
    script = f"""
        from refdepth.sfm.native import run_step
        print("ready", flush=True)
        while True:
            run_step(
                "undistort", output={str(tmp_path)!r}, jpeg_quality=90, threads=1,
                images={str(photo_set.images)!r}, model={str(photo_set.out / "sparse")!r},
            )
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not workers(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers(process.pid)
    return process


def test_a_stop_is_obeyed_and_no_process_stays(photo_set, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_step(
            "extract",
            database=tmp_path / "a.db",
            images=photo_set.images,
            names=[photo.name for photo in photo_set.photos],
            large=[],
            masks=None,
            max_features=8192,
            max_image_size=3200,
            threads=1,
            threads_large=1,
            cancelled=lambda: bool(workers(os.getpid())),
        )
    assert not workers(os.getpid())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_with_its_parent(photo_set, tmp_path: Path, sent: signal.Signals) -> None:
    process = start_work(photo_set, tmp_path)
    children = workers(process.pid)
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode != 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_nothing_reaches_the_terminal_and_the_log_has_it(
    photo_set, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    arguments = {"images": photo_set.images, "model": photo_set.out / "sparse"}
    run_step("undistort", output=tmp_path / "out", jpeg_quality=90, threads=1, **arguments)
    assert capfd.readouterr() == ("", "")
    assert any("Undistort" in record.getMessage() for record in caplog.records)


def test_failures_and_crashes_become_errors(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="check_model"):
        run_step("check_model", model=tmp_path, output=tmp_path / "out")
    with pytest.raises(StageError, match="ended unexpectedly"):
        run_step("no_such_step", cancelled=partial(signal_the_worker, signal.SIGABRT))
    with pytest.raises(ResourceError, match="was killed"):
        run_step("no_such_step", cancelled=partial(signal_the_worker, signal.SIGKILL))


def signal_the_worker(signal_number: signal.Signals) -> bool:
    for worker in workers(os.getpid()):
        worker.send_signal(signal_number)
    return False


def test_importing_pycolmap_leaves_signal_handlers_in_place() -> None:
    script = """
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: print("ours", flush=True))
        import refdepth._pycolmap
        os.kill(os.getpid(), signal.SIGTERM)
        print("alive")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
    )
    assert result.stdout.split() == ["ours", "alive"]


def test_a_thread_that_is_refused_memory_before_its_first_step_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("refdepth.sfm.native._THREAD_SECONDS", 0.2)
    monkeypatch.setattr("_thread.start_new_thread", lambda function, arguments: 0)
    with pytest.raises(MemoryError, match="could not begin"):
        run_step("check_vocabulary", path="nowhere")
