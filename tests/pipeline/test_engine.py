"""The engine with stages that only count: what is reused, what is made again, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from counting_stages import ITEMS, CountingStage, runs

from refdepth.errors import StageError
from refdepth.pipeline import engine as engine_module
from refdepth.pipeline.config import RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.stage_status import StageState
from refdepth.pipeline.workspace import Workspace


def test_a_second_run_makes_nothing(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    before = {p: p.stat().st_mtime_ns for p in workspace.root.rglob("*") if p.is_file()}
    statuses = Engine(workspace, request_).reconstruct()
    assert runs(stages) == [1, 1, 1]
    assert {status.state for status in statuses} == {StageState.DONE}
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_changed_setting_makes_its_stage_and_those_after_it(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    changed = request_.model_copy(
        update={"config": build_config(assignments=["refine.iterations=7"])}
    )
    status = Engine(workspace, changed).status()[-1]
    assert status.state is StageState.STALE
    assert "last.iterations is 7" in status.why
    Engine(workspace, changed).reconstruct()
    assert runs(stages) == [1, 1, 2]


def test_a_setting_that_does_not_change_results_dirties_nothing(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    changed = request_.model_copy(
        update={"config": build_config(options={"runtime.device": "cpu"})}
    )
    Engine(workspace, changed).reconstruct()
    assert runs(stages) == [1, 1, 1]


def test_a_changed_photo_makes_everything(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    (Path(request_.inputs.images) / "a.jpg").write_bytes(b"two")
    Engine(workspace, request_).reconstruct()
    assert runs(stages) == [2, 2, 2]


def test_a_moved_workspace_stays_valid(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    moved = workspace.root.rename(workspace.root.with_name("moved"))
    for path in moved.rglob("*"):
        os.utime(path, ns=(5, 5))
    Engine(Workspace(moved), request_).reconstruct()
    assert runs(stages) == [1, 1, 1]


def test_photos_that_are_gone_leave_their_results_valid(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    (Path(request_.inputs.images) / "a.jpg").unlink()
    Path(request_.inputs.images).rmdir()
    statuses = Engine(workspace, request_).status()
    assert {status.state for status in statuses} == {StageState.DONE}


@pytest.mark.parametrize("damage", ["truncated", "removed", "flipped"])
def test_a_damaged_artifact_is_noticed_and_made_again_alone(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest, damage: str
) -> None:
    Engine(workspace, request_).reconstruct()
    path = workspace.stage_dir("middle") / "b.npz"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    status = Engine(workspace, request_).status()[1]
    assert status.state is StageState.DAMAGED
    assert "b.npz" in status.why
    stages["middle"].made.clear()
    Engine(workspace, request_).reconstruct()
    assert stages["middle"].made == ["b"]
    assert runs(stages) == [1, 2, 1]
    assert path.read_bytes() == content


def test_a_flipped_bit_under_the_old_time_is_found_by_the_thorough_check(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    path = workspace.stage_dir("last") / "b.npz"
    time = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    assert Engine(workspace, request_).status()[2].state is StageState.DONE
    assert Engine(workspace, request_).status(thorough=True)[2].state is StageState.DAMAGED


def test_an_interrupted_stage_goes_on_with_what_is_left(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    stages["middle"].stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        Engine(workspace, request_).reconstruct()
    status = Engine(workspace, request_).status()[1]
    assert (status.state, status.items) == (StageState.PARTIAL, (2, 3))
    stages["middle"].stop_after = None
    Engine(workspace, request_).reconstruct()
    assert stages["middle"].made == ["a", "b", "c"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"stage": 3}', "not json"])
def test_a_manifest_edited_to_nonsense_is_made_again(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest, content: str
) -> None:
    Engine(workspace, request_).reconstruct()
    (workspace.stage_dir("middle") / "manifest.json").write_text(content)
    Engine(workspace, request_).reconstruct()
    assert runs(stages) == [1, 2, 1]
    assert stages["middle"].made == ["a", "b", "c"], "whole items are kept"


def test_a_newer_stage_version_makes_old_artifacts_stale(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    stages["middle"].version = 2  # type: ignore[misc]
    assert "another version" in Engine(workspace, request_).status()[1].why
    Engine(workspace, request_).reconstruct()
    assert runs(stages) == [1, 2, 2]


def test_a_stage_on_its_own_needs_valid_upstream(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct(until="first")
    with pytest.raises(StageError, match=r"needs middle.*refdepth stage middle"):
        Engine(workspace, request_).run_stage("last")


def test_a_stage_on_its_own_runs_again_and_resume_continues(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    Engine(workspace, request_).reconstruct()
    Engine(workspace, request_).run_stage("middle")
    assert stages["middle"].made == [*ITEMS, *ITEMS]
    assert Engine(workspace, request_).status()[2].state is StageState.DONE
    Engine(workspace, request_).run_stage("middle", resume=True)
    assert stages["middle"].made == [*ITEMS, *ITEMS]


def test_the_manifest_says_what_was_made_from_what(
    stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
) -> None:
    statuses = Engine(workspace, request_).reconstruct()
    stored = json.loads((workspace.stage_dir("last") / "manifest.json").read_text())
    assert stored["inputs"] == {"middle": statuses[1].fingerprint}
    assert sorted(stored["files"]) == sorted(f"{n}.{e}" for n in ITEMS for e in ("npz", "json"))
    assert stored["summary"]["headline"] == "3 things"
    assert stored["libraries"]["numpy"] == np.__version__
    assert stored["peak_memory_mb"] > 1


def test_kernels_of_all_stages_to_come_are_compiled_before_the_first_that_has_any(
    stages: dict[str, CountingStage],
    workspace: Workspace,
    request_: RunRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(engine_module, "ROOMS", {"middle": (), "last": ()})
    monkeypatch.setattr(
        engine_module, "kernels_to_compile", lambda names: asked.append(sorted(set(names))) or []
    )
    Engine(workspace, request_).reconstruct(until="first")
    assert asked == []
    Engine(workspace, request_).reconstruct()
    assert asked[0] == ["last", "middle"]
    Engine(workspace, request_).run_stage("last")
    assert asked[-1] == ["last"]
