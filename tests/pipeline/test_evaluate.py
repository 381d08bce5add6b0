"""Which depth of a workspace is compared with the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom

from refdepth.io.depth_files import write_posed_depth
from refdepth.pipeline.evaluate import evaluate_workspace
from refdepth.pipeline.items import ItemStore
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
