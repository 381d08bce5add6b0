"""Cameras without EXIF start from what the run's own network sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import save_depth_anything, save_depth_pro

from refdepth._pycolmap import pycolmap
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.stage_status import StageState, StageStatus
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene, make_scene

ANGLE_DEG = 52.0


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=5, width=240, height=180)


@pytest.fixture(scope="module")
def given(room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with and without a focal length, and networks that see one or do not."""
    folder = tmp_path_factory.mktemp("given")
    room.write_photos(folder / "bare", suffix=".png")
    room.write_photos(folder / "exif")
    save_depth_pro(folder / "pro", degrees=ANGLE_DEG)
    save_depth_pro(folder / "other_pro", degrees=ANGLE_DEG + 5)
    save_depth_anything(folder / "anything", "metric")
    return folder


def request(given: Path, photos: str, model: str) -> RunRequest:
    chosen = model if model == "sweep" else str(given / model)
    return RunRequest(
        inputs=RunInputs(images=str(given / photos)),
        config=build_config(options={"depth.model": chosen}),
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "out").mkdir()
    return Workspace(tmp_path / "out")


def sfm(workspace: Workspace, asked: RunRequest) -> StageStatus:
    return Engine(workspace, asked).reconstruct(until="sfm")[1]


def test_sfm_starts_where_the_network_says_and_says_so(
    given: Path, workspace: Workspace, room: SyntheticScene
) -> None:
    made = sfm(workspace, request(given, "bare", "pro"))
    assert made.manifest is not None
    (start,) = made.manifest.summary["focal_starts"]
    expected = 120 / np.tan(np.radians(ANGLE_DEG / 2))
    assert start["source"] == "network"
    assert start["focal_px"] == pytest.approx(expected, rel=1e-4)
    assert (start["photos"], start["told_by"]) == (5, 5)
    model = pycolmap.Reconstruction(str(workspace.stage_dir("sfm") / "sparse"))
    (camera,) = model.cameras.values()
    assert camera.focal_length == pytest.approx(room.camera.K[0, 0], rel=0.02)
    again = Engine(workspace, request(given, "bare", "pro")).status()[1]
    assert again.state == StageState.DONE
    other = Engine(workspace, request(given, "bare", "sweep")).status()[1]
    assert (other.state, other.why) == (StageState.STALE, "focal_network has changed")


def test_another_network_of_the_kind_makes_cameras_again(given: Path, workspace: Workspace) -> None:
    before = sfm(workspace, request(given, "bare", "pro")).manifest
    after = sfm(workspace, request(given, "bare", "other_pro")).manifest
    assert before is not None
    assert after is not None
    focals = [m.summary["focal_starts"][0]["focal_px"] for m in (before, after)]
    assert focals[0] > 1.05 * focals[1]


@pytest.mark.parametrize(("photos", "model"), [("exif", "pro"), ("bare", "anything")])
def test_where_nothing_is_asked_the_network_is_no_part_of_the_cameras(
    given: Path, workspace: Workspace, photos: str, model: str
) -> None:
    made = sfm(workspace, request(given, photos, model))
    assert made.manifest is not None
    (start,) = made.manifest.summary["focal_starts"]
    assert start["source"] == ("exif" if photos == "exif" else "guess")
    assert not (workspace.stage_dir("sfm") / "focal").exists()
    for other in ("sweep", "anything", model):
        status = Engine(workspace, request(given, photos, other)).status()[1]
        assert status.state == StageState.DONE, other


def test_looking_reads_no_weights(given: Path, workspace: Workspace) -> None:
    status = Engine(workspace, request(given, "bare", "pro")).status()[1]
    assert status.state == StageState.MISSING
    assert "weights" in status.why
    workspace.save_hashes()
    weights = given / "pro" / "model.safetensors"
    assert workspace.known_hash(weights) is None
