"""Normal maps through a whole run from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.cli.main import run
from refdepth.geometry.normals import estimate_normals
from refdepth.io.colmap import to_reconstruction
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.results import Results
from refdepth.pipeline.stage_status import StageState
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import make_scene

VIEWS = 4


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, their cameras, maps of depth and of normals."""
    folder = tmp_path_factory.mktemp("given")
    room = make_scene(views=VIEWS, width=160, height=120)
    scene = room.to_scene(folder / "photos", points_per_view=120)
    for name in ("model", "depth", "normals"):
        (folder / name).mkdir()
    to_reconstruction(scene).write(str(folder / "model"))
    for name, view in zip(scene.names, room.views, strict=True):
        stem = Path(name).stem
        np.save(folder / "depth" / f"{stem}.npy", view.depth)
        normals = estimate_normals(view.depth, view.camera, radius_px=2, max_ratio=0.05)
        if stem != "view_000":
            np.save(folder / "normals" / f"{stem}.npy", normals)
    return folder


def reconstruct(given: Path, out: Path, *options: str) -> int:
    command = ["reconstruct", str(given / "photos"), str(out), "--quality", "fast"]
    command += ["--model", str(given / "model"), "--until", "refine", "--workers", "1"]
    command += ["--depth-maps", str(given / "depth"), "--depth-kind", "metric", *options]
    return run(command)


def test_normals_reach_the_refinement_and_are_part_of_what_it_is_made_from(
    given: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert reconstruct(given, out) == 0
    workspace = Workspace(out)
    before = {
        name: Results(workspace).refined(name).depth for name in Results(workspace).scene.names
    }
    assert reconstruct(given, out, "--normal-maps", str(given / "normals")) == 0
    results = Results(workspace)
    changed = []
    for name in results.scene.names:
        depth = results.refined(name).depth
        changed.append(not np.array_equal(depth, before[name]))
        exact = np.load(given / "depth" / f"{Path(name).stem}.npy")
        assert np.median(np.abs(depth / exact - 1)) < 0.005
        with np.load(out / "depth" / f"{name}.npz") as stored:
            assert ("normals" in stored) == (Path(name).stem != "view_000")
            if "normals" in stored:
                kept = stored["normals"].astype(np.float32) / 127
                exact_normals = np.load(given / "normals" / f"{Path(name).stem}.npy")[::2, ::2]
                cosine = (kept * exact_normals).sum(axis=2)
                assert np.median(cosine) > 0.99
    assert any(changed)
    request = workspace.request()
    assert request.inputs.normal_maps is not None
    assert Engine(workspace, request).status()[2].state == StageState.DONE
    without = request.model_copy(
        update={"inputs": request.inputs.model_copy(update={"normal_maps": None})}
    )
    status = Engine(workspace, without).status()[2]
    assert (status.state, status.why) == (StageState.STALE, "normal_maps has changed")


def test_normals_that_point_away_end_the_run_with_what_to_do(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in (given / "normals").iterdir():
        np.save(wrong / path.name, -np.load(path))
    assert reconstruct(given, tmp_path / "out", "--normal-maps", str(wrong)) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "point away from the camera" in said
    assert "x right, y down, z forward" in said
    assert reconstruct(given, tmp_path / "out", "--normal-maps", str(tmp_path / "nowhere")) == 3
    assert "--normal-maps" in capsys.readouterr().err
