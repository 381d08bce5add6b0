"""When the refinement chooses its renderer, and what is refused before anything is made."""

import pytest
import torch
from PIL import Image
from wall_scene import wall_scene

from refdepth import devices
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.stage import StageContext
from refdepth.pipeline.stages import depth, refine
from refdepth.pipeline.workspace import Workspace
from refdepth.render import selection
from refdepth.settings import Quality


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
    monkeypatch.setattr(devices, "cuda_available", lambda: False)

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


@pytest.mark.parametrize("steps", [0, 3])
def test_without_gpus_the_main_process_looks_for_no_renderer(run_stage, monkeypatch, steps):
    monkeypatch.setattr("refdepth.render.select_renderer", None)
    monkeypatch.setattr("refdepth.pipeline.engines.gpus", list)
    with pytest.raises(RoundBeganError):
        run_stage(f"refine.iterations={steps}")


def test_a_device_that_is_named_computes_without_gradient_steps_too(run_stage):
    with pytest.raises(UnavailableError):
        run_stage("refine.iterations=0", "runtime.device=cuda")


def test_networks_on_cuda_and_the_renderer_on_the_cpu_go_together(run_stage):
    with pytest.raises(RoundBeganError):
        run_stage("refine.iterations=3", "runtime.device=cuda", "runtime.renderer=cpu")


class StageBeganError(Exception):
    pass


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Begins a run, up to its first stage."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "run").mkdir()
    Image.new("RGB", (64, 48)).save(photos / "a.png")

    def refuse(*_, **__):
        raise StageBeganError

    monkeypatch.setattr(Engine, "_make", refuse)

    def run(quality: str, renderer: str, device: str, *, cuda: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(selection, "nvdiffrast_installed", lambda: False)
        config = build_config(
            quality=Quality(quality),
            options={
                "depth.model": "sweep",
                "runtime.renderer": renderer,
                "runtime.device": device,
            },
        )
        inputs = RunInputs(images=str(photos))
        Engine(Workspace(tmp_path / "run"), RunRequest(inputs=inputs, config=config)).reconstruct()

    return run


def refusal(quality: str, renderer: str, device: str, *, cuda: bool) -> type[Exception] | None:
    """Why a run cannot be had on a machine without nvdiffrast; None for one that can."""
    if device == "mps" or (device == "cuda" and not cuda):
        return UnavailableError
    if renderer == "nvdiffrast":
        return ConfigurationError if device == "cpu" else UnavailableError
    if quality == "paper" and renderer == "torch":
        return ConfigurationError
    if quality == "paper" and renderer == "auto" and device == "cuda":
        return UnavailableError
    return None


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("quality", list(Quality))
def test_every_combination_works_or_is_refused_before_any_stage(begin, quality, cuda):
    for renderer in selection.RendererName:
        for device in devices.DeviceName:
            expected = refusal(quality, renderer, device, cuda=cuda) or StageBeganError
            with pytest.raises(expected):
                begin(quality, renderer, device, cuda=cuda)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--device", "mps"], ExitCode.UNAVAILABLE),
        (["--device", "mps", "--until", "depth"], ExitCode.UNAVAILABLE),
        (["--device", "mps", "--until", "sfm"], 0),
        (["--renderer", "nvdiffrast"], ExitCode.UNAVAILABLE),
        (["--renderer", "nvdiffrast", "--device", "cpu"], ExitCode.USAGE),
        (["--renderer", "nvdiffrast", "--until", "scale"], 0),
        (["--renderer", "torch"], 0),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(tmp_path, monkeypatch, options, code):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 48)).save(photos / "a.png")
    command = ["reconstruct", str(photos), str(tmp_path / "out"), "--depth-model", "sweep"]
    assert run([*command, "--dry-run", *options]) == code


@pytest.mark.parametrize(
    "stage", [depth.DepthStage(), refine.RefineStage()], ids=["depth", "refine"]
)
def test_a_stage_made_alone_refuses_a_device_that_is_not_there(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = build_config(
        quality=Quality.FAST, options={"depth.model": "sweep", "runtime.device": "cuda"}
    )
    request = RunRequest(inputs=RunInputs(images=str(tmp_path)), config=config)
    stage.inputs(Workspace(tmp_path), request, looking=True)
    with pytest.raises(UnavailableError, match="no CUDA device"):
        stage.inputs(Workspace(tmp_path), request, looking=False)
