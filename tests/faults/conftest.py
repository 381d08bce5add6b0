"""What the fault tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fault_runs import Photos, Runner, make_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, runner: Runner, photos: Photos) -> Path:
    """The workspace of an undisturbed run."""
    out = tmp_path_factory.mktemp("reference") / "out"
    ended = runner.run(photos.command(out))
    assert ended.code == 0, ended.said
    return out


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Photos that features can be found in."""
    return make_photos(tmp_path_factory.mktemp("larger"), views=6, width=240, height=180)


@pytest.fixture(scope="session")
def placed(tmp_path_factory: pytest.TempPathFactory, runner: Runner, larger: Photos) -> Path:
    """The workspace of an undisturbed run of structure from motion on `larger`."""
    out = tmp_path_factory.mktemp("placed") / "out"
    ended = runner.run(larger.from_photos(out, "--until", "sfm"))
    assert ended.code == 0, ended.said
    return out


@pytest.fixture
def workspace(reference: Path, tmp_path: Path) -> Path:
    """A copy of the finished workspace that the test may harm."""
    return Path(shutil.copytree(reference, tmp_path / "out"))
