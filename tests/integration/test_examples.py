"""The examples run as they stand in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def error_after(label: str, text: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(label))
    return float(line.split()[-2])


def test_refine_views_improves_the_synthetic_room(tmp_path: Path) -> None:
    text = run_example("refine_views.py", str(tmp_path), "--views", "4")
    assert error_after("refined", text) < error_after("scaled prior", text)
    assert (tmp_path / "cloud.ply").is_file()
    assert (tmp_path / "colmap" / "stereo" / "fusion.cfg").is_file()
    # Its own export is a COLMAP model that it starts from.
    model, images = tmp_path / "colmap" / "sparse", tmp_path / "colmap" / "images"
    again = run_example("refine_views.py", str(model), str(images), str(tmp_path / "again"))
    assert "4 views" in again


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not a COLMAP model"):
        run_example("refine_views.py", str(tmp_path), str(tmp_path), str(tmp_path / "out"))
