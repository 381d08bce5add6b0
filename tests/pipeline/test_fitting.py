"""The `scale` stage where SfM points are few, or all in one part of the pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import refdepth
from refdepth.cli.main import run
from refdepth.errors import StageError
from refdepth.io.colmap import to_reconstruction
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.stages.scale import load_scaled
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.types.scene import Scene, View

WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=4, width=WIDTH, height=HEIGHT)


def small_thing(room: SyntheticScene, folder: Path, most: int = 1000) -> Scene:
    """The scene with at most so many points, all on what lies in a small part of the first view."""
    scene = room.to_scene(folder, points_per_view=4000)
    first = scene.views[0]
    part = np.floor(first.point_xy * 16 / [WIDTH, HEIGHT]).astype(int)
    blocks = [((part - corner) // 3 == 0).all(axis=1) for corner in np.ndindex(14, 14)]
    kept = first.point_index[max(blocks, key=np.count_nonzero)][:most]

    def restricted(view: View) -> View:
        seen = np.isin(view.point_index, kept)
        return replace(view, point_index=view.point_index[seen], point_xy=view.point_xy[seen])

    return Scene([restricted(view) for view in scene.views], scene.points)


def test_points_on_one_thing_in_all_photos_carry_the_depth(
    room: SyntheticScene, tmp_path: Path
) -> None:
    scene = small_thing(room, tmp_path / "photos")
    for folder in ("model", "depth"):
        (tmp_path / folder).mkdir()
    to_reconstruction(scene).write(str(tmp_path / "model"))
    for name, view in zip(scene.names, room.views, strict=True):
        np.save(tmp_path / "depth" / f"{Path(name).stem}.npy", 3 * view.depth)
    command = ["reconstruct", str(tmp_path / "photos"), str(tmp_path / "out"), "--workers", "1"]
    command += ["--model", str(tmp_path / "model"), "--until", "scale"]
    command += ["--depth-maps", str(tmp_path / "depth"), "--depth-kind", "metric"]
    assert run(command) == 0
    workspace = Workspace(tmp_path / "out")
    items = ItemStore(workspace.stage_dir("scale"), "")
    found = load_scene(workspace)
    for view, true in zip(found.views, room.views, strict=True):
        record = items.record(view.name)
        assert record["flags"] == ["badly_spread"]
        assert len(record["samples"]) == min(record["points"], 100)  # as a chart shows them
        shown = [value for x, z, _ in record["samples"] for value in (x, z)]
        assert shown == [float(f"{value:.5g}") for value in shown]
        x, y = np.floor(view.point_xy).astype(int).T
        scaled = load_scaled(workspace, view)[y, x]
        assert np.median(np.abs(scaled / true.depth[y, x] - 1)) < 0.02
    manifest = Manifest.read(workspace.stage_dir("scale"))
    assert manifest is not None
    assert manifest.summary["median_residual"] < 0.02


def test_too_few_points_in_all_photos_are_said(room: SyntheticScene, tmp_path: Path) -> None:
    scene = small_thing(room, tmp_path / "photos", most=6)
    with pytest.raises(StageError, match="enough SfM points"):
        refdepth.scale_scene(scene, refdepth.SweepPrior())
