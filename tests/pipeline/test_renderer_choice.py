"""When the refinement chooses its renderer."""

import pytest
from wall_scene import wall_scene

from refdepth.errors import UnavailableError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.stage import StageContext
from refdepth.pipeline.stages import refine
from refdepth.pipeline.workspace import Workspace
from refdepth.render import selection


class RoundBeganError(Exception):
    pass


class Watching:
    """Where the stage's work would be done."""

    def run(self, work, names, watch, *, in_order=False, after=None):
        raise RoundBeganError


@pytest.fixture
def run_stage(tmp_path, monkeypatch):
    """Runs the refinement on a machine without CUDA up to its first piece of work."""
    scene, _ = wall_scene(tmp_path)
    monkeypatch.setattr(refine, "load_scene", lambda _: scene)
    monkeypatch.setattr(selection, "cuda_available", lambda: False)

    def run(*settings: str) -> None:
        context = StageContext(
            workspace=Workspace(tmp_path),
            request=RunRequest(
                inputs=RunInputs(images=str(tmp_path)), config=build_config(assignments=settings)
            ),
            folder=tmp_path / "refine",
            fingerprint="",
            item_fingerprint="",
            inputs={},
            progress=Silent(),
            cancellation=Cancellation(),
            executor=Watching(),
        )
        refine.RefineStage().run(context)

    return run


def test_a_renderer_that_cannot_be_had_ends_the_run_before_any_round(run_stage):
    with pytest.raises(UnavailableError):
        run_stage("refine.iterations=3", "runtime.device=cuda")
    with pytest.raises(UnavailableError):
        run_stage("refine.iterations=3", "runtime.renderer=nvdiffrast")


def test_without_gradient_steps_no_renderer_is_chosen(run_stage):
    with pytest.raises(RoundBeganError):
        run_stage("refine.iterations=0", "runtime.device=cuda")


def test_networks_on_cuda_and_the_renderer_on_the_cpu_go_together(run_stage):
    with pytest.raises(RoundBeganError):
        run_stage("refine.iterations=3", "runtime.device=cuda", "runtime.renderer=cpu")
