"""A disk that is full, read-only, broken or gone: one clear message with the path, and a workspace
from which the same command goes on."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_workspace import make_fake_workspace
from fault_runs import STAGES, Photos, Runner, broken, difference, result, temporaries

from refdepth.cli.main import run
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.workspace import Workspace

RESOURCE = 7
ERRORS = [
    (errno.ENOSPC, "no space left"),
    (errno.EACCES, "Permission denied"),
    (errno.EROFS, "Read-only file system"),
    (errno.EIO, "Input/output error"),
    (errno.ENOENT, "No such file"),
]
STAGES_THAT_WRITE = ("prepare", "depth", "refine", "fuse")
FAILURES = [
    pytest.param(stage, *error, marks=() if m == n else pytest.mark.faults)
    for n, stage in enumerate(STAGES_THAT_WRITE)
    for m, error in enumerate(ERRORS)
]


@pytest.mark.parametrize(("stage", "error", "says"), FAILURES)
def test_a_write_that_fails_ends_with_a_path_and_the_next_run_goes_on(
    stage: str,
    error: int,
    says: str,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    left = STAGES[STAGES.index(stage) :]
    out = Path(shutil.copytree(reference, tmp_path / "out", ignore=shutil.ignore_patterns(*left)))
    command = photos.command(out, "--until", stage)
    ended = runner.run(command, folder=str(out / stage), fail_before=("any", 7, error))
    assert ended.code == RESOURCE, ended.said
    assert str(out) in ended.said
    assert says in ended.said
    assert "Traceback" not in ended.said
    assert broken(out) == []
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    kept = {name: value for name, value in result(reference).items() if (out / name).exists()}
    assert difference(result(out), kept) == []
    assert temporaries(out) == []
    survived["failed writes"] += 1


@pytest.mark.parametrize(
    "number",
    [n if n % 3 == 1 else pytest.param(n, marks=pytest.mark.faults) for n in range(1, 40, 4)],
)
def test_a_write_that_fails_anywhere_is_no_fault_of_the_program(
    number: int,
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = Path(
        shutil.copytree(
            reference, tmp_path / "out", ignore=shutil.ignore_patterns("refine", "fuse")
        )
    )
    command = photos.command(out)
    ended = runner.run(command, folder=str(out), fail_before=("any", number, errno.ENOSPC))
    assert ended.code in (0, RESOURCE), ended.said
    assert broken(out) == []
    assert runner.run(command).code == 0
    assert difference(result(out), result(reference)) == []
    survived["failed writes"] += 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fills the file system up to `leave` bytes."""
    free = shutil.disk_usage(folder).free
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(0, free - leave)))
    return ballast


@pytest.mark.parametrize(
    "leave_kb", [4, 120, 330, *(pytest.param(n, marks=pytest.mark.faults) for n in (60, 200))]
)
def test_a_full_disk_is_named_and_space_is_all_it_takes(
    leave_kb: int,
    small_disk: Path,
    runner: Runner,
    photos: Photos,
    reference: Path,
    survived: Counter[str],
) -> None:
    ballast = fill(small_disk, leave_kb * 1024)
    out = small_disk / "out"
    ended = runner.run(photos.command(out))
    assert ended.code == RESOURCE, ended.said
    assert "no space left" in ended.said
    assert str(small_disk) in ended.said
    assert broken(out) == []
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ended = runner.run(photos.command(out))
    assert ended.code == 0, ended.said
    assert difference(result(out), result(reference)) == []
    assert temporaries(out) == []
    survived["full disks"] += 1


def test_a_full_disk_can_be_cleaned(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    make_fake_workspace(tmp_path, 4)
    out = Path(shutil.copytree(tmp_path / "out", small_disk / "out"))
    fill(small_disk, 0)
    assert shutil.disk_usage(small_disk).free == 0
    assert run(["clean", str(out)]) == 0, capsys.readouterr().err
    assert shutil.disk_usage(small_disk).free > 0
    assert not list(out.glob("depth/*.npz"))
    states = [status.state for status in Engine(Workspace(out), Workspace(out).request()).status()]
    assert set(states) == {"done", "cleaned"}


def test_a_read_only_disk_is_named(
    small_disk: Path, runner: Runner, photos: Photos, survived: Counter[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = runner.run(photos.command(small_disk / "out"))
    assert ended.code == RESOURCE, ended.said
    assert "Read-only file system" in ended.said
    assert str(small_disk) in ended.said
    survived["read-only disks"] += 1


def test_a_workspace_that_vanishes_is_named(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns("refine", "fuse"))
    runner.start(photos.command(out), pace=0.3)
    while "refine: started" not in runner.said():
        assert runner.running()
    out.rename(tmp_path / "elsewhere")
    ended = runner.wait()
    assert ended.code in (3, RESOURCE), ended.said
    assert str(out) in ended.said
    assert not out.exists(), "made anew where it was"
    survived["vanished folders"] += 1


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder and where it is mounted."""
    store, folder = tmp_path / "store", tmp_path / "disk"
    store.mkdir()
    folder.mkdir()
    if not bind(store, folder):
        pytest.skip("mounting a file system is not permitted here")
    yield store, folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def bind(store: Path, folder: Path) -> bool:
    command = ["mount", "--bind", str(store), str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize(
    "stage",
    [
        "refine",
        *(pytest.param(s, marks=pytest.mark.faults) for s in ("prepare", "depth", "scale", "fuse")),
    ],
)
def test_a_disk_that_is_unmounted_is_named_and_goes_on_when_it_is_back(
    stage: str,
    mounted: tuple[Path, Path],
    runner: Runner,
    photos: Photos,
    reference: Path,
    survived: Counter[str],
) -> None:
    store, folder = mounted
    left = STAGES[STAGES.index(stage) :]
    out = Path(shutil.copytree(reference, folder / "out", ignore=shutil.ignore_patterns(*left)))
    command = photos.command(out)
    runner.start(command, pace=0.3)
    while f"{stage}: started" not in runner.said():
        assert runner.running(), runner.said()
    subprocess.run(["umount", "-l", str(folder)], check=True)
    ended = runner.wait()
    assert ended.code in (3, RESOURCE), ended.said
    assert str(out) in ended.said
    assert "Traceback" not in ended.said
    assert list(folder.iterdir()) == [], "written where the disk was"
    assert bind(store, folder)
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    assert difference(result(out), result(reference)) == []
    assert temporaries(out) == []
    survived["vanished folders"] += 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_output_folder_that_is_refused_is_named(
    number: int, runner: Runner, photos: Photos, tmp_path: Path, survived: Counter[str]
) -> None:
    out = tmp_path / "out"
    ended = runner.run(
        photos.command(out), folder=str(out), fail_before=("any", number, errno.EACCES)
    )
    assert ended.code == RESOURCE, ended.said
    assert "Permission denied" in ended.said
    assert str(out) in ended.said
    survived["failed writes"] += 1
