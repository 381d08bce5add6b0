"""The count of what the fault, fuzz and input tests tried and survived, printed at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_SURVIVED: Counter[str] = Counter()
_CORPUS = "test_input_corpus"


@pytest.fixture(scope="session")
def survived() -> Counter[str]:
    """Kinds of harm and how often each was tried and survived."""
    return _SURVIVED


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several test processes hands its count to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["survived"] = dict(_SURVIVED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes that count."""
    _SURVIVED.update(getattr(node, "workeroutput", {}).get("survived", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the count, odd inputs of the corpus included."""
    passed = terminalreporter.stats.get("passed", [])
    inputs = sum(_CORPUS in report.nodeid for report in passed)
    counts = {**_SURVIVED, **({"odd inputs": inputs} if inputs else {})}
    if counts:
        terminalreporter.section("tried and survived")
        for kind, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:5} {kind}")
