"""What `refdepth stage` is asked for holds for the command alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import refdepth.cli.session
from refdepth.cli.main import run
from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import RunInputs, RunRequest
from refdepth.pipeline.workspace import Workspace


def test_workers_and_memory_hold_for_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    workspace.write_request(RunRequest(inputs=RunInputs(images="photos")))
    before, asked = workspace.request(), []

    def choose(_: Path, request: RunRequest) -> None:
        asked.append(request)
        raise ConfigurationError("enough seen.")

    monkeypatch.setattr(refdepth.cli.session, "choose_executor", choose)
    command = ["stage", "refine", "--workspace", str(tmp_path)]
    assert run([*command, "--workers", "3", "--max-memory", "0.5"]) == 2
    assert run(command) == 2
    for_one, plain = asked
    assert (for_one.config.runtime.workers, for_one.config.runtime.max_memory_gb) == (3, 0.5)
    assert plain == before == workspace.request()
