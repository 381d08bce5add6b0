"""What the fault tests share, and the count of what was tried and survived."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import Photos, Runner, make_photos

_SURVIVED: Counter[str] = Counter()
_CORPUS = "test_input_corpus"


@pytest.fixture(scope="session")
def survived() -> Counter[str]:
    """Kinds of harm and how often each was tried and survived; printed at the end."""
    return _SURVIVED


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    running = Runner(tmp_path_factory.mktemp("runner"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, runner: Runner, photos: Photos) -> Path:
    """The workspace of an undisturbed run."""
    out = tmp_path_factory.mktemp("reference") / "out"
    ended = runner.run(photos.command(out))
    assert ended.code == 0, ended.said
    return out


@pytest.fixture
def workspace(reference: Path, tmp_path: Path) -> Path:
    """A copy of the finished workspace that the test may harm."""
    return Path(shutil.copytree(reference, tmp_path / "out"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.stats.get("passed", [])
    inputs = sum(_CORPUS in report.nodeid for report in passed)
    counts = {**_SURVIVED, **({"odd inputs": inputs} if inputs else {})}
    if counts:
        terminalreporter.section("tried and survived")
        for kind, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:5} {kind}")
