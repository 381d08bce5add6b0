"""A finished workspace around exact depth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting_stages import CountingStage
from exact_room import ExactRoom, make_exact_room, make_workspace
from recorded_executor import RecordedExecutor

from refdepth.pipeline import engine as engine_module
from refdepth.pipeline.config import RunInputs, RunRequest
from refdepth.pipeline.executors import SerialExecutor
from refdepth.pipeline.workers import WorkerPool
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


@pytest.fixture(scope="session")
def two_workers() -> Iterator[WorkerPool]:
    pool = WorkerPool(2)
    yield pool
    pool.close()


@pytest.fixture
def workers(two_workers: WorkerPool) -> RecordedExecutor:
    """Two processes beside this one."""
    return RecordedExecutor(two_workers)


@pytest.fixture(params=["this process", "workers"])
def executor(request: pytest.FixtureRequest, two_workers: WorkerPool) -> RecordedExecutor:
    """Each kind of executor in turn."""
    return RecordedExecutor(SerialExecutor() if request.param == "this process" else two_workers)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[str, CountingStage]:
    made = (
        CountingStage("first"),
        CountingStage("middle", ("first",)),
        CountingStage("last", ("middle",)),
    )
    monkeypatch.setattr(engine_module, "STAGES", made)
    return {stage.name: stage for stage in made}


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"one")
    return RunRequest(inputs=RunInputs(images=str(photos)))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "out"
    root.mkdir()
    return Workspace(root)
