"""What an installed refdepth consists of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("refdepth", "pipeline", "cli")


def build(tmp_path: Path, kind: str) -> Path:
    """A wheel or sdist of a copy of this checkout (a build leaves folders behind)."""
    pytest.importorskip("setuptools", minversion="77", reason="no build backend")
    source = tmp_path / "checkout"
    for folder in (*FOLDERS, "tests", "benchmarks", "examples"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    script = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True, check=True
    )
    return tmp_path / done.stdout.splitlines()[-1]


def product_files() -> set[str]:
    """Everything the three folders hold, at the place where it is imported."""
    return {
        (Path("" if folder == "refdepth" else "refdepth") / path.relative_to(ROOT)).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")  # which does not follow links
        if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    }


def test_a_wheel_occupies_one_name_and_holds_every_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path, "wheel")) as wheel:
        names = set(wheel.namelist())
        (about,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        scripts = ConfigParser()
        scripts.read_string(wheel.read(f"{about}/entry_points.txt").decode())
    assert {name for name in names if not name.startswith(f"{about}/")} == product_files()
    assert {name.split("/")[0] for name in names} == {"refdepth", about}
    assert "refdepth/py.typed" in names
    assert "refdepth/pipeline/templates/report.html" in names
    assert dict(scripts["console_scripts"]) == {"refdepth": "refdepth.cli.main:main"}


def test_an_sdist_holds_the_product_as_plain_files_and_no_tests(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "sdist")) as sdist:
        names = {one.name.partition("/")[2] for one in sdist.getmembers() if one.isfile()}
    assert product_files() <= names
    assert {name.split("/")[0] for name in names}.isdisjoint({"tests", "pipeline", "cli"})
