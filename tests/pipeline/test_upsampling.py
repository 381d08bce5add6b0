"""The network that adds detail, in a run: which one it is, and that a wrong one ends it at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import save_depth_anything, save_prompt_depth_anything

from refdepth.cli.main import run
from refdepth.io.colmap import to_reconstruction
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.results import Results
from refdepth.pipeline.stage_status import StageState, StageStatus
from refdepth.pipeline.upsampling import UPSAMPLER, with_upsampler
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import make_scene

REFINE = 4
"""Position of the stage among all."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with their cameras and exact depth maps, and networks."""
    folder = tmp_path_factory.mktemp("given")
    room = make_scene(views=4, width=160, height=120)
    scene = room.to_scene(folder / "photos", points_per_view=120)
    for name in ("model", "depth"):
        (folder / name).mkdir()
    to_reconstruction(scene).write(str(folder / "model"))
    for name, view in zip(scene.names, room.views, strict=True):
        np.save(folder / "depth" / f"{Path(name).stem}.npy", view.depth)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_prompt_depth_anything(folder / "prompted")
        save_prompt_depth_anything(folder / "other")
        save_depth_anything(folder / "plain")
    return folder


def reconstruct(given: Path, out: Path, network: str | Path = "") -> int:
    command = ["reconstruct", str(given / "photos"), str(out), "--quality", "fast"]
    command += ["--model", str(given / "model"), "--until", "refine", "--workers", "1"]
    command += ["--depth-maps", str(given / "depth"), "--depth-kind", "metric"]
    command += ["--set", "refine.working_pixels=2000", "--set", "refine.upsampler.max_pixels=6000"]
    if network:
        command += ["--set", f"refine.upsampler.model={network}"]
    return run(command)


def status_with(workspace: Workspace, network: str | Path) -> StageStatus:
    request = workspace.request()
    refine = request.config.refine
    upsampler = refine.upsampler.model_copy(update={"model": str(network)})
    refine = refine.model_copy(update={"upsampler": upsampler})
    config = request.config.model_copy(update={"refine": refine})
    asked = request.model_copy(update={"config": config})
    return Engine(workspace, asked).status()[REFINE]


def test_it_is_part_of_what_refined_depth_is_made_from(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workspace = Workspace(out)
    network = tmp_path / "network"
    shutil.copytree(given / "prompted", network)
    assert reconstruct(given, out) == 0
    plain = Engine(workspace, workspace.request()).status()[REFINE]
    assert plain.manifest is not None
    assert UPSAMPLER not in plain.manifest.inputs
    assert "upsampler" not in plain.manifest.settings
    assert reconstruct(given, out, network) == 0
    workspace = Workspace(out)
    made = Engine(workspace, workspace.request()).status()[REFINE]
    assert made.state == StageState.DONE
    assert made.manifest is not None
    assert made.manifest.inputs[UPSAMPLER]["model"] == "local"
    results = Results(workspace)
    records = ItemStore(workspace.stage_dir("refine"), "")
    for name in results.scene.names:
        assert "detail_share" in records.record(name)
        exact = np.load(given / "depth" / f"{Path(name).stem}.npy")
        assert np.median(np.abs(results.refined(name).depth / exact - 1)) < 0.005

    elsewhere = network.rename(tmp_path / "moved")
    for path in elsewhere.iterdir():
        workspace.content_hash(path)
    assert status_with(workspace, elsewhere).state == StageState.DONE
    gone = Engine(workspace, workspace.request()).status()[REFINE]
    assert gone.state == StageState.DONE
    unread = status_with(workspace, given / "other")
    assert unread.state == StageState.STALE
    assert "weights" in unread.why
    assert workspace.known_hash(given / "other" / "model.safetensors") is None
    off = status_with(workspace, "")
    assert off.state == StageState.STALE
    assert "upsampler" in off.why
    for path in (given / "other").iterdir():
        workspace.content_hash(path)
    other = status_with(workspace, given / "other")
    assert (other.state, other.why) == (StageState.STALE, "upsampler has changed")


def test_its_memory_is_counted(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert reconstruct(given, out, given / "prompted") == 0
    workspace = Workspace(out)
    request = workspace.request()
    scene = load_scene(workspace)
    weights = (given / "prompted" / "model.safetensors").stat().st_size
    bare = Cost(seconds=1, bytes=1000)
    cost = with_upsampler(bare, scene, request, {UPSAMPLER: {"model": "local", "revision": "x"}})
    assert cost.bytes > bare.bytes + (500 << 20) + weights
    assert cost.seconds > bare.seconds
    assert with_upsampler(bare, scene, request, {}) is bare


@pytest.mark.parametrize("network", ["plain", "photos", "nowhere/at/all"])
def test_what_is_no_such_network_ends_the_run_before_it_begins(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    out = tmp_path / "out"
    assert reconstruct(given, out, given / network) == 2
    said = capsys.readouterr().err
    assert "refine.upsampler.model" in said
    assert not list(out.glob("*/manifest.json"))


def test_as_a_prior_it_is_refused_and_the_setting_named(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reconstruct", str(given / "photos"), str(tmp_path / "out")]
    assert run([*command, "--depth-model", str(given / "prompted")]) == 3
    assert "refine.upsampler.model" in capsys.readouterr().err
