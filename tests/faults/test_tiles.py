"""Fusion in many tiles: the points of the scene as one tile, whoever fuses them; and killed or out
of disk in the middle of a tile it goes on with the next."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fault_runs import Photos, Runner, broken, difference, result, temporaries
from scipy.spatial import cKDTree

import refdepth.fusion.tiles
from refdepth.fusion import FusionSettings, fuse
from refdepth.io.ply import read_ply
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.results import Results
from refdepth.pipeline.workers import WorkerPool
from refdepth.pipeline.workspace import Workspace

KILLED, RESOURCE = -9, 7
TILE = 300
"""Points, few enough for several tiles."""
SETTINGS = ("--set", "fuse.voxel_px=0.1", "--workers", "1")


def points(path: Path) -> list[bytes]:
    """The cloud's points in an order of their own."""
    cloud = read_ply(path)
    fields = (cloud.points, cloud.normals, cloud.colors, cloud.confidence)
    return sorted(b"".join(value.tobytes() for value in row) for row in zip(*fields, strict=True))


def without_cloud(reference: Path, out: Path) -> Path:
    return Path(shutil.copytree(reference, out, ignore=shutil.ignore_patterns("fuse")))


@pytest.fixture(scope="module")
def tiled(
    runner: Runner, photos: Photos, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The workspace of an undisturbed run in many tiles."""
    out = without_cloud(reference, tmp_path_factory.mktemp("tiled") / "out")
    ended = runner.run(photos.command(out, *SETTINGS), tile_points=TILE)
    assert ended.code == 0, ended.said
    assert tiles_of(out) > 4
    return out


def tiles_of(out: Path) -> int:
    manifest = Workspace(out).stage_dir("fuse") / "manifest.json"
    return int(json.loads(manifest.read_text())["summary"]["tiles"])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cloud_has_the_same_points_in_one_tile_and_in_many_by_any_number_of_workers(
    workers: int, tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(tiled, tmp_path / "out"))
    workspace = Workspace(out)
    executor: Executor = SerialExecutor() if workers == 1 else WorkerPool(workers)
    if workers > 1:
        monkeypatch.setattr(refdepth.fusion.tiles, "TILE_POINTS", TILE)
    Engine(workspace, workspace.request(), executor=executor).run_stage("fuse")
    executor.close()
    ours, theirs = out / "fuse" / "cloud.ply", tiled / "fuse" / "cloud.ply"
    if workers == 1:
        assert tiles_of(out) == 1
        assert points(ours) == points(theirs)
        assert ours.read_bytes() != theirs.read_bytes()
    else:
        assert ours.read_bytes() == theirs.read_bytes()


def test_killed_in_a_tile_it_goes_on_with_that(
    runner: Runner,
    photos: Photos,
    reference: Path,
    tiled: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = without_cloud(reference, tmp_path / "out")
    command, making = photos.command(out, *SETTINGS), out / "fuse" / "making"
    marks: list[dict[str, int]] = []
    for _ in range(2):  # each comes two tiles further
        job = {"folder": str(making / "tiles"), "kill_before": ("rename", 3)}
        ended = runner.run(command, tile_points=TILE, **job)
        assert ended.code == KILLED, ended.said
        assert broken(out) == []
        kept = [p for p in making.rglob("[!.]*.*") if p.is_file()]
        marks.append({p.relative_to(making).as_posix(): p.stat().st_ino for p in kept})
    for suffix, count in ((".ply", 2), (".rows", 4)):
        assert sum(name.endswith(suffix) for name in marks[0]) == count
    assert marks[0].items() <= marks[1].items(), "made again"
    assert len([name for name in marks[1] if name.endswith(".ply")]) == 4
    assert runner.run(command, tile_points=TILE).code == 0
    assert difference(result(out), result(tiled)) == []
    assert not making.exists()
    survived["kills at a write"] += 2


def test_a_disk_that_is_full_in_a_tile_is_named_and_nothing_is_lost(
    runner: Runner,
    photos: Photos,
    reference: Path,
    tiled: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    out = without_cloud(reference, tmp_path / "out")
    command, tiles = photos.command(out, *SETTINGS), out / "fuse" / "making" / "tiles"
    job = {"folder": str(tiles), "fail_before": ("rename", 3, errno.ENOSPC)}
    ended = runner.run(command, tile_points=TILE, **job)
    assert ended.code == RESOURCE, ended.said
    assert "no space left" in ended.said
    assert str(tiles / "000002.ply") in ended.said
    assert "Traceback" not in ended.said
    assert broken(out) == []
    assert sorted(path.name for path in tiles.iterdir()) == ["000000.ply", "000001.ply"]
    assert runner.run(command, tile_points=TILE).code == 0
    assert difference(result(out), result(tiled)) == []
    assert temporaries(out) == []
    survived["failed writes"] += 1


def test_what_was_made_under_other_settings_is_not_gone_on_with(
    runner: Runner, photos: Photos, reference: Path, tiled: Path, tmp_path: Path
) -> None:
    out = without_cloud(reference, tmp_path / "out")
    job = {"folder": str(out / "fuse" / "making" / "tiles"), "kill_before": ("rename", 2)}
    other = photos.command(out, *SETTINGS, "--set", "fuse.min_agreeing=2")
    assert runner.run(other, tile_points=TILE, **job).code == KILLED
    assert runner.run(photos.command(out, *SETTINGS), tile_points=TILE).code == 0
    assert difference(result(out), result(tiled)) == []


def test_on_a_coarser_grid_the_stage_fuses_what_the_library_does(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path
) -> None:
    """Near it: the stage keeps depth rounded between its steps."""
    out = without_cloud(reference, tmp_path / "out")
    coarse = ("--workers", "1", "--set", "fuse.max_pixels=1024")
    assert runner.run(photos.command(out, *coarse)).code == 0
    results = Results(Workspace(out))
    settings = FusionSettings(max_pixels=1024)
    whole = fuse(results.scene, results.refined, settings)
    ours = results.cloud()
    for name in results.views("fuse"):
        assert ItemStore(out / "fuse", "").arrays(name)["depth"].size <= 1024
    assert len(ours) == pytest.approx(len(whole), rel=0.02)
    distance, near = cKDTree(whole.points).query(ours.points)
    assert np.quantile(distance, 0.95) < 1e-3 * np.median(np.linalg.norm(whole.points, axis=1))
    assert np.median(np.abs(ours.colors - whole.colors[near].astype(float))) <= 1
