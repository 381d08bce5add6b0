"""The engine with stages that only count: what is reused, what is made again, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdepth.errors import InputError, StageError
from refdepth.pipeline import cleaning, spare
from refdepth.pipeline import engine as engine_module
from refdepth.pipeline.cleaning import drop, find_parts
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.spare import Spare
from refdepth.pipeline.stage import NotKnownYet, StageContext, StageOutcome
from refdepth.pipeline.stage_status import StageState
from refdepth.pipeline.workspace import Workspace

ITEMS = ("a", "b", "c")


class CountingStage:
    """Doubles the upstream's numbers; counts its runs and the items it makes."""

    version = 1

    def __init__(self, name: str, upstream: tuple[str, ...] = ()) -> None:
        self.name = name
        self.upstream = upstream
        self.runs = 0
        self.made: list[str] = []
        self.stop_after: int | None = None
        self.found_out_late = False
        """Whether what it is made from is known only when it runs."""

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"iterations": config.refine.iterations} if self.name == "last" else {}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        if self.upstream:
            return {}
        if self.found_out_late and looking:
            raise NotKnownYet("weights are looked up")
        images = Path(request.inputs.images)
        if not images.is_dir():
            raise InputError("is gone.", subject=images)
        return {"photos": workspace.folder_hash(images)}

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        from refdepth.pipeline.items import ItemStore

        items = ItemStore(workspace.stage_dir(self.name), fingerprint)
        return sum(items.is_done(name) for name in ITEMS), len(ITEMS)

    def run(self, context: StageContext) -> StageOutcome:
        self.runs += 1
        items = context.items()
        for number, name in enumerate(ITEMS):
            context.cancellation.check()
            if items.is_done(name):
                continue
            if self.stop_after is not None and number >= self.stop_after:
                raise KeyboardInterrupt
            self.made.append(name)
            items.write(name, {"x": np.full(3, number)}, {})
        return StageOutcome(files=items.paths(ITEMS), summary={"n": 3}, headline="3 things")


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


def runs(stages: dict[str, CountingStage]) -> list[int]:
    return [stage.runs for stage in stages.values()]


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


@pytest.fixture
def spares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays of `first`, which `middle` reads, and those of `middle`, which `last` reads."""
    common: dict[str, Any] = {"patterns": ("*.npz",), "what": "arrays"}
    made = (
        Spare(name="one", stage="first", read_by=("middle",), **common),
        Spare(name="two", stage="middle", read_by=("last",), **common),
    )
    monkeypatch.setattr(spare, "SPARES", made)
    monkeypatch.setattr(cleaning, "SPARES", made)


def clean(workspace: Workspace, request: RunRequest, *, keep: tuple[str, ...] = ()) -> list[str]:
    """Cleans, and says how each stage stands then."""
    statuses = Engine(workspace, request).status()
    drop(workspace, find_parts(workspace, request.inputs, statuses, keep))
    return [status.state.value for status in Engine(workspace, request).status()]


def changed(request: RunRequest) -> RunRequest:
    """With another setting of the last stage."""
    return request.model_copy(update={"config": build_config(assignments=["refine.iterations=7"])})


@pytest.mark.usefixtures("spares")
class TestCleaned:
    """Stages of which `refdepth clean` has dropped what later ones no longer need."""

    def test_what_was_dropped_is_not_made_again_for_nothing(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct()
        assert clean(workspace, request_) == ["cleaned", "cleaned", "done"]
        left = {path.name for path in workspace.root.rglob("*.npz")}
        assert left == {path.name for path in workspace.stage_dir("last").glob("*.npz")}
        Engine(workspace, request_).reconstruct()
        assert runs(stages) == [1, 1, 1]
        assert clean(workspace, request_) == ["cleaned", "cleaned", "done"]

    def test_what_a_later_stage_reads_again_is_made_again_with_all_that_takes(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct()
        before = {path: path.read_bytes() for path in workspace.root.rglob("*.npz")}
        clean(workspace, request_)
        statuses = Engine(workspace, changed(request_)).reconstruct()
        assert runs(stages) == [2, 2, 2]
        assert {status.state for status in statuses} == {StageState.DONE}
        assert {path: path.read_bytes() for path in before} == before

    def test_what_it_does_not_read_is_not(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct()
        assert clean(workspace, request_, keep=("two",)) == ["cleaned", "done", "done"]
        Engine(workspace, changed(request_)).reconstruct()
        assert runs(stages) == [1, 1, 2]

    def test_nothing_is_dropped_that_a_stage_still_needs(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct(until="middle")
        assert clean(workspace, request_) == ["cleaned", "done", "missing"]
        Engine(workspace, request_).reconstruct()
        assert runs(stages) == [1, 1, 1]
        assert clean(workspace, changed(request_))[1:] == ["done", "stale"]

    def test_a_stage_on_its_own_says_what_to_run_first(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct()
        clean(workspace, request_)
        with pytest.raises(StageError, match=r"stage first --resume`, then `.*stage middle --res"):
            Engine(workspace, request_).run_stage("last")
        for name in ("first", "middle"):
            status = Engine(workspace, request_).run_stage(name, resume=True)
            assert status.state is StageState.DONE
        assert runs(stages) == [2, 2, 1]
        Engine(workspace, request_).run_stage("last")

    def test_a_damaged_file_of_a_cleaned_stage_makes_it_again(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        Engine(workspace, request_).reconstruct()
        clean(workspace, request_)
        (workspace.stage_dir("middle") / "b.json").unlink()
        assert Engine(workspace, request_).status()[1].state is StageState.DAMAGED
        Engine(workspace, request_).reconstruct()
        assert runs(stages) == [2, 2, 1]

    def test_a_stop_while_files_are_dropped_leaves_nothing_to_make(
        self,
        stages: dict[str, CountingStage],
        workspace: Workspace,
        request_: RunRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        Engine(workspace, request_).reconstruct()

        def stop(path: Path) -> None:
            if path.name.startswith("b"):
                raise KeyboardInterrupt
            path.unlink()

        remove = cleaning._remove
        monkeypatch.setattr(cleaning, "_remove", stop)
        with pytest.raises(KeyboardInterrupt):
            clean(workspace, request_)
        monkeypatch.setattr(cleaning, "_remove", remove)
        assert Engine(workspace, request_).status()[0].state is StageState.CLEANED
        Engine(workspace, request_).reconstruct()
        assert runs(stages) == [1, 1, 1]
        clean(workspace, request_)
        assert not list(workspace.stage_dir("first").glob("*.npz"))

    def test_inputs_found_out_late_make_nothing_again_that_turns_out_valid(
        self, stages: dict[str, CountingStage], workspace: Workspace, request_: RunRequest
    ) -> None:
        stages["first"].found_out_late = True
        Engine(workspace, request_).reconstruct()
        stages["first"].found_out_late = False
        clean(workspace, request_)
        stages["first"].found_out_late = True
        assert [s.state.value for s in Engine(workspace, request_).status()] == ["stale"] * 3
        Engine(workspace, request_).reconstruct()
        assert runs(stages) == [1, 1, 1]
