"""Bad input on the command line: one clear message, the right exit code, nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdepth.cli.main import run

ROOT = Path(__file__).parents[2]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> None:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def reconstruct(photos: Path, out: Path, *options: str) -> int:
    return run(["reconstruct", str(photos), str(out), "--depth-model", "sweep", *options])


def test_an_empty_folder_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(photos, tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert str(photos) in said
    assert "holds no photos" in said
    assert "Traceback" not in said


def test_one_photo_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(photos / "a.png")
    assert reconstruct(photos, tmp_path / "out") == 3
    assert "only one usable photo" in capsys.readouterr().err


def test_files_that_are_no_photos_are_named_with_the_reason(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.jpg").write_text("these are not pixels")
    assert reconstruct(photos, tmp_path / "out") == 3
    assert "notes.jpg" in capsys.readouterr().err


def test_photos_without_overlap_end_with_a_reason(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        picture(photos / f"{seed}.png", seed, (160, 120))
    assert reconstruct(photos, tmp_path / "out") == 4
    assert "overlap" in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(tmp_path / "absent", tmp_path / "out") == 3
    assert "absent: does not exist." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--quality", "gold"), "--quality gold"),
        (("--set", "refine.iteration=3"), "refine.iteration"),
        (("--set", "refine.iterations=lots"), "refine.iterations"),
        (("--until", "heaven"), "--until heaven"),
        (("--renderer", "opengl"), "runtime.renderer"),
        (("--depth-kind", "metric"), "--depth-kind: says what --depth-maps"),
        (("--depth-kind", "metric", "--depth-model", "sweep"), "--depth-model sweep is known"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_leaves_no_output(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    says: str,
) -> None:
    assert reconstruct(photos, tmp_path / "out", *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wrong_config_file_names_file_and_field(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scene.toml"
    file.write_text("[refine]\niterations = -4\n")
    assert reconstruct(photos, tmp_path / "out", "--config", str(file)) == 2
    said = capsys.readouterr().err
    assert "refine.iterations" in said
    assert "scene.toml" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_cannot_be_written_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert reconstruct(photos, locked / "out") == 7
    assert str(locked) in capsys.readouterr().err


def test_an_output_below_a_file_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert reconstruct(photos, tmp_path / "file" / "out") in (3, 7)
    assert reconstruct(photos, tmp_path / "file") == 3
    assert "file" in capsys.readouterr().err


def test_a_folder_that_is_no_workspace_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", str(tmp_path)]) == 3
    assert run(["stage", "refine", "--workspace", str(tmp_path)]) == 3
    assert "not a refdepth workspace" in capsys.readouterr().err


def test_a_refused_run_leaves_an_earlier_workspace_as_it_was(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in range(3):
        picture(photos / f"{seed}.png", seed)
    assert reconstruct(photos, out, "--until", "prepare") == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".log"}
    assert reconstruct(tmp_path / "absent", out) == 3
    assert reconstruct(photos, out, "--quality", "gold") == 2
    assert {p: p.read_bytes() for p in before} == before


def test_a_hub_model_that_cannot_be_had_is_said_with_the_way_to_get_it(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for seed in range(3):
        picture(photos / f"{seed}.png", seed)
    model = "depth-anything/Depth-Anything-V2-Small-hf"
    assert run(["reconstruct", str(photos), str(tmp_path / "out"), "--depth-model", model]) == 5
    said = capsys.readouterr().err
    assert model in said
    assert "download" in said.lower()


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from refdepth.cli.main import run; code = run(['--help']); "
        "heavy = {'torch', 'open3d', 'numba', 'pycolmap', 'transformers', 'pydantic', 'numpy'}; "
        "assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("reconstruct", "stage", "status", "demo", "doctor", "evaluate"):
        assert command in done.stdout


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(
    number: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(photos / "a.png")
    assert reconstruct(photos, tmp_path / "out", "--workers", number) == 2
    assert f"--workers {number}" in capsys.readouterr().err
    assert reconstruct(photos, tmp_path / "out", "--set", f"runtime.workers={number}") == 2
    assert "runtime.workers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_workers_than_photos_are_as_many_as_there_are_photos(
    photos: Path, tmp_path: Path
) -> None:
    for number in range(2):
        picture(photos / f"{number}.png", seed=number)
    assert reconstruct(photos, tmp_path / "out", "--workers", "50", "--until", "prepare") == 0
    log = (tmp_path / "out" / "refdepth.log").read_text()
    assert {"by worker 1", "by worker 2"} <= set(re.findall(r"by worker \d+", log))
    assert "by worker 3" not in log
