"""The engine after `refdepth clean`: what was dropped is made again only where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from counting_stages import CountingStage, runs

from refdepth.errors import StageError
from refdepth.pipeline import cleaning, spare
from refdepth.pipeline.cleaning import drop, find_parts
from refdepth.pipeline.config import RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.spare import Spare
from refdepth.pipeline.stage_status import StageState
from refdepth.pipeline.workspace import Workspace


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
