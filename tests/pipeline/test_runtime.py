"""Seed, threads and memory are said once and reach every stage that they concern."""

from __future__ import annotations

from typing import Any

import pytest

import refdepth.fusion
import refdepth.refine.rounds
import refdepth.sfm.mapping
from refdepth.devices import DeviceName
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest, build_config
from refdepth.pipeline.executors import SerialExecutor
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.registry import STAGES
from refdepth.pipeline.stage import StageContext
from refdepth.pipeline.stages import sfm as sfm_stage
from refdepth.pipeline.workspace import Workspace
from refdepth.render.selection import RendererName, select_renderer

CONFIG = build_config(
    options={"runtime.seed": 7, "runtime.threads": 3, "runtime.max_memory_gb": 1.0}
)


class CalledError(Exception):
    """Ends a stage where the library is called."""


@pytest.fixture
def handed_over(finished: Workspace, monkeypatch: pytest.MonkeyPatch):
    """What a stage hands by keyword to a function of the library."""

    def handed(stage: str, module: Any, function: str, config: RunConfig) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def stop(*arguments: Any, **named: Any) -> None:
            given.update(named)
            raise CalledError

        monkeypatch.setattr(module, function, stop)
        context = StageContext(
            workspace=finished,
            request=RunRequest(inputs=RunInputs(images="photos"), config=config),
            folder=finished.stage_dir(stage),
            fingerprint="another",
            item_fingerprint="another",
            inputs={},
            progress=Silent(),
            cancellation=Cancellation(),
            executor=SerialExecutor(),
        )
        with pytest.raises(CalledError):
            next(s for s in STAGES if s.name == stage).run(context)
        return given

    return handed


def test_the_seed_remakes_what_draws_at_random_and_nothing_else() -> None:
    plain = build_config()
    changed = [s.name for s in STAGES if s.settings(plain) != s.settings(CONFIG)]
    assert changed == ["sfm", "refine"]


def test_structure_from_motion_is_told_seed_threads_and_memory(
    handed_over, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sfm_stage, "read_table", lambda workspace: [])
    given = handed_over("sfm", refdepth.sfm.mapping, "reconstruct", CONFIG)
    assert (given["seed"], given["threads"], given["memory_mb"]) == (7, 3, 512.0)


def test_the_refinement_is_told_the_seed(handed_over) -> None:
    assert handed_over("refine", refdepth.refine.rounds, "first_round", CONFIG)["seed"] == 7


def test_settings_and_the_choice_of_a_renderer_share_their_names() -> None:
    runtime = RunConfig().runtime
    assert (type(runtime.renderer), type(runtime.device)) == (RendererName, DeviceName)
    assert select_renderer(RendererName.CPU, DeviceName.CPU).name == RendererName.CPU
