"""A finished workspace around exact depth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exact_room import ExactRoom, make_exact_room, make_workspace

from refdepth.pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> ExactRoom:
    return make_exact_room(tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="session")
def finished_root(room: ExactRoom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("finished") / "out", room)


@pytest.fixture
def finished(finished_root: Path, tmp_path: Path) -> Workspace:
    """A copy that the test may change."""
    return Workspace(Path(shutil.copytree(finished_root, tmp_path / "out")))
