"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import Runner
from survival import (  # noqa: F401  (hooks and a fixture)
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    survived,
)

LONGEST_FIRST = (
    "test_cluster.py",
    "test_worker_faults.py",
    "test_mapping.py",
    "test_entries.py",
    "test_many_photos.py",
    "test_interrupts.py",
    "test_kills.py",
    "test_connections_entries.py",
    "test_small_run.py",
    "test_looking.py",
    "test_view_selection.py",
    "test_integrity.py",
    "test_disk.py",
    "test_gradient_steps.py",
    "test_workers.py",
    "test_difference.py",
    "test_memory.py",
    "test_export.py",
    "test_fuzz.py",
)
"""Where several processes share the files, none is left alone with a long one at the end."""


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A process that forks runs of the command line."""
    running = Runner(tmp_path_factory.mktemp("runner"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def shared_scenes() -> Path:
    """Folder of real photo sets; tests that need it are skipped where it is absent."""
    folder = os.environ.get("REFDEPTH_SCENES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set REFDEPTH_SCENES to a folder of scenes to run this")
    return Path(folder)


def pytest_configure(config: pytest.Config) -> None:
    """A shell that puts a job in the background has it ignore Ctrl-C, and so would every process
    that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts long files first; leaves out what needs a GPU or much time unless it is asked for with
    -m."""
    first = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: first.get(item.path.name, len(first)))
    asked = config.getoption("-m") or ""
    for item in items:
        for marker in ("gpu", "faults", "connections"):
            if item.get_closest_marker(marker) and marker not in asked:
                item.add_marker(pytest.mark.skip(reason=f"run with -m {marker}"))
