"""Which depth of a workspace is compared with the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom

from refdepth.errors import InputError
from refdepth.io.depth_files import write_posed_depth
from refdepth.pipeline.evaluate import evaluate_workspace
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.report import write_report
from refdepth.pipeline.workspace import Workspace


def test_the_fused_stage_is_the_depth_that_views_agree_on(
    finished: Workspace, room: ExactRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here they agree on another depth than the refined: 2 % farther."""
    # The truth has its own K: the lenses of the input photos are not asked for.
    monkeypatch.setattr("refdepth.pipeline.evaluate.input_photos", lambda _: lambda view: None)
    (tmp_path / "truth").mkdir()
    for view in room.scene.views:
        exact = room.load(view.name)
        arrays = {"depth": exact.depth * np.float32(1.02), "confidence": exact.confidence}
        ItemStore(finished.stage_dir("fuse"), "").write_arrays(view.name, arrays)
        path = tmp_path / "truth" / f"{view.name}.npz"
        write_posed_depth(path, exact.depth, view.camera, view.cam_from_world)
    found = evaluate_workspace(finished, tmp_path / "truth", use_icp=False)["depth"]
    error = {stage: row["mean"]["all"]["median_rel"] for stage, row in found["stages"].items()}
    scale = found["scale"]["value"]
    assert error["refined"] == pytest.approx(abs(scale - 1), abs=1e-4)
    assert error["fused"] == pytest.approx(abs(1.02 * scale - 1), abs=1e-4)


def test_without_truth_the_left_out_points_judge_the_confidence(finished: Workspace) -> None:
    with pytest.raises(InputError, match="judge the confidence"):
        evaluate_workspace(finished, None)
    folder = finished.stage_dir("refine")
    manifest = Manifest.read(folder)
    assert manifest is not None
    row = {"low": 0.7, "high": 0.8, "count": 4, "stated": 0.75, "true": 0.5}
    points = {"within": 0.03, "count": 4, "gap": 0.25, "stated": 0.75, "true": 0.5, "bins": [row]}
    summary = {**manifest.summary, "calibration": {"at_points": points}}
    manifest.model_copy(update={"summary": summary}).write(folder)
    assert evaluate_workspace(finished, None) == {"points": points}
    page = write_report(finished).read_text()
    assert "at 4 left-out SfM points (gap 0.25)" in page


def test_an_evaluation_against_depth_says_how_reliable_the_confidence_is(
    finished: Workspace, room: ExactRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.pipeline.evaluate.input_photos", lambda _: lambda view: None)
    (tmp_path / "truth").mkdir()
    for view in room.scene.views:
        exact = room.load(view.name)
        path = tmp_path / "truth" / f"{view.name}.npz"
        write_posed_depth(path, exact.depth, view.camera, view.cam_from_world)
    found = evaluate_workspace(finished, tmp_path / "truth", use_icp=False)["depth"]
    trust = found["confidence"]["refined"]["reliability"]
    assert trust["true"] == 1  # exact depth, stated with 0.5 to 1
    assert trust["gap"] == pytest.approx(1 - trust["stated"])


def test_what_lies_beside_true_depth_is_not_taken_for_it(
    finished: Workspace, room: ExactRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.pipeline.evaluate.input_photos", lambda _: lambda view: None)
    folder = tmp_path / "truth"
    folder.mkdir()
    np.save(folder / "poses.npy", np.eye(4))
    for view in room.scene.views:
        exact = room.load(view.name)
        write_posed_depth(
            folder / f"{view.name}.npz", exact.depth, view.camera, view.cam_from_world
        )
    found = evaluate_workspace(finished, folder, use_icp=False)["depth"]
    assert found["truth"]["views"] == len(room.scene.views)


@pytest.mark.parametrize("pose", [[1, 2, 3], [[1, 0], [0, 1]], [[float("nan")] * 4] * 4])
def test_poses_of_another_shape_are_refused(
    finished: Workspace, room: ExactRoom, tmp_path: Path, pose: list
) -> None:
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({name: {"cam_from_world": pose} for name in room.scene.names}))
    with pytest.raises(InputError, match="no camera poses that can be read"):
        evaluate_workspace(finished, path)
