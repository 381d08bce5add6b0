"""A finished workspace around exact depth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exact_room import make_exact_room, make_workspace


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return make_workspace(folder / "out", make_exact_room(folder / "photos"))


@pytest.fixture
def finished(finished_root: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(finished_root, tmp_path / "out"))
