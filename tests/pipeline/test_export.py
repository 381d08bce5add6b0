"""Exports from a workspace: what is filtered, what is refused, what is never half there."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
import pytest
import trimesh
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from recorded_executor import RecordedExecutor

import refdepth.fusion.cloud
import refdepth.fusion.crosscheck
import refdepth.pipeline.exports
import refdepth.pipeline.files
from refdepth._pycolmap import pycolmap
from refdepth.errors import ConfigurationError, InputError, Interrupted, ResourceError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import build_config
from refdepth.pipeline.exports import (
    CloudFile,
    DepthFile,
    ExportFormat,
    ExportOptions,
    export,
    parse_formats,
)
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.registry import STAGES
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace


def test_all_formats_at_once_each_in_its_folder(finished: Workspace) -> None:
    targets = export(finished, tuple(ExportFormat))
    assert set(targets) == set(ExportFormat)
    for format_, folder in targets.items():
        assert folder == finished.root / "export" / format_
        marker = json.loads((folder / "refdepth-export.json").read_text())
        assert marker["format"] == format_
        assert marker["unit"] == "SfM units"
        assert marker["made_from"]["refine"] == "refine-fingerprint"
    assert not list(finished.root.rglob(".tmp-*"))
    assert pycolmap.Reconstruction(str(targets[ExportFormat.COLMAP] / "sparse")).num_images() == 7
    mesh = trimesh.load_mesh(targets[ExportFormat.MESH] / "mesh.ply")
    glb = trimesh.load_scene(targets[ExportFormat.MESH] / "mesh.glb").to_geometry()
    assert len(mesh.faces) == len(glb.faces) > 1000


def test_the_mesh_lies_on_the_exact_surface(finished: Workspace, room: ExactRoom) -> None:
    folder = export(finished, [ExportFormat.MESH])[ExportFormat.MESH]
    hit, depth = seen(folder / "mesh.ply", room, 3)
    assert hit.mean() > 0.7
    error = np.abs(depth[hit] / room.depth[room.scene.names[3]][hit] - 1)
    assert np.median(error) < 0.005


def seen(mesh: Path, room: ExactRoom, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a view's rays hit the mesh, and the depth there."""
    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(o3d.t.io.read_triangle_mesh(str(mesh)))
    view = room.scene.views[number]
    world_from_cam = np.linalg.inv(view.cam_from_world)
    directions = view.camera.rays() @ world_from_cam[:3, :3].T
    origins = np.broadcast_to(world_from_cam[:3, 3], directions.shape)
    rays = np.concatenate([origins, directions], -1).astype(np.float32)
    depth = caster.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
    return np.isfinite(depth), depth


def test_the_cloud_is_the_fused_one(finished: Workspace) -> None:
    kinds = (CloudFile.PLY, CloudFile.LAS, CloudFile.LAZ)
    folder = export(finished, [ExportFormat.CLOUD], options=ExportOptions(cloud_files=kinds))[
        ExportFormat.CLOUD
    ]
    ours = o3d.t.io.read_point_cloud(str(finished.root / "fuse" / "cloud.ply"))
    stored = o3d.t.io.read_point_cloud(str(folder / "cloud.ply"))
    assert_array_equal(stored.point.positions.numpy(), ours.point.positions.numpy())
    assert_array_equal(stored.point.confidence.numpy(), ours.point.confidence.numpy())
    laspy = pytest.importorskip("laspy")
    for suffix in ("las", "laz"):
        las = laspy.read(folder / f"cloud.{suffix}")
        positions = np.stack([las.x, las.y, las.z], 1)
        assert_allclose(positions, ours.point.positions.numpy(), atol=1e-6)


def test_a_sample_of_the_cloud_is_spread_over_it(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.pipeline.export_formats.SAMPLE_POINTS", 2000)
    options = ExportOptions(cloud_files=(CloudFile.SAMPLE,))
    whole = o3d.t.io.read_point_cloud(str(finished.root / "fuse" / "cloud.ply"))
    files = []
    for force in (False, True):
        folder = export(finished, [ExportFormat.CLOUD], options=options, force=force)[
            ExportFormat.CLOUD
        ]
        files.append((folder / "cloud-sample.ply").read_bytes())
    assert files[0] == files[1]
    sample = o3d.t.io.read_point_cloud(str(folder / "cloud-sample.ply"))
    points, every = sample.point.positions.numpy(), whole.point.positions.numpy()
    assert len(every) > 4000
    assert abs(len(points) - 2000) < 200
    assert {tuple(point) for point in points} <= {tuple(point) for point in every}
    assert_allclose(points.mean(axis=0), every.mean(axis=0), atol=0.1)


def test_unsure_pixels_and_points_are_left_out_when_asked(
    finished: Workspace, room: ExactRoom
) -> None:
    options = ExportOptions(min_confidence=0.75, depth_files=(DepthFile.TIFF32,))
    targets = export(finished, [ExportFormat.DEPTH, ExportFormat.CLOUD], options=options)
    name = room.scene.names[0]
    with Image.open(targets[ExportFormat.DEPTH] / "tiff32" / f"{name}.tiff") as picture:
        depth = np.asarray(picture)
    keep = room.load(name).confidence >= 0.75
    assert_array_equal(depth, np.where(keep, room.depth[name], 0))
    cloud = o3d.t.io.read_point_cloud(str(targets[ExportFormat.CLOUD] / "cloud.ply"))
    assert cloud.point.confidence.numpy().min() >= 0.75


def test_only_confirmed_pixels_when_asked(finished: Workspace, room: ExactRoom) -> None:
    options = ExportOptions(consistent=True, depth_files=(DepthFile.NPZ,))
    folder = export(finished, [ExportFormat.DEPTH], options=options)[ExportFormat.DEPTH]
    name = room.scene.names[0]
    with np.load(folder / "npz" / f"{name}.npz") as stored:
        depth = stored["depth"]
    assert (depth[:30] == 0).all()
    assert_array_equal(depth[30:], room.depth[name][30:])


def test_consistent_depth_and_the_mesh_are_the_agreed_depth(
    finished: Workspace, room: ExactRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the views agree on another depth than the refined: 2 % farther."""
    for name in room.scene.names:
        exact = room.load(name)
        arrays = {"depth": exact.depth * np.float32(1.02), "confidence": exact.confidence}
        ItemStore(finished.stage_dir("fuse"), "").write_arrays(name, arrays)

    def refuse(*_: object) -> None:
        raise AssertionError("views are checked again")

    monkeypatch.setattr(refdepth.fusion.crosscheck, "check_view", refuse)
    monkeypatch.setattr(refdepth.fusion.cloud, "check_view", refuse)
    options = ExportOptions(consistent=True, depth_files=(DepthFile.NPZ,))
    targets = export(finished, [ExportFormat.DEPTH, ExportFormat.MESH], options=options)
    view = room.scene.views[3]
    with np.load(targets[ExportFormat.DEPTH] / "npz" / f"{view.name}.npz") as stored:
        assert_array_equal(stored["depth"], room.depth[view.name] * np.float32(1.02))
    hit, depth = seen(targets[ExportFormat.MESH] / "mesh.ply", room, 3)
    ratio = depth[hit] / room.depth[view.name][hit]
    assert np.median(ratio) == pytest.approx(1.02, abs=0.005)


def test_a_mesh_needs_fused_views(finished: Workspace, room: ExactRoom) -> None:
    name = room.scene.names[1]
    finished.stage_dir("fuse").joinpath(f"{name}.npz").unlink()
    with pytest.raises(InputError, match=f"{name}.*refdepth stage fuse"):
        export(finished, [ExportFormat.MESH])
    with pytest.raises(InputError, match=f"{name}.*refdepth stage fuse"):
        export(finished, [ExportFormat.DEPTH], options=ExportOptions(consistent=True))


def test_another_mesh_resolution_changes_the_mesh_and_no_stage(finished: Workspace) -> None:
    before = finished.request()
    coarse = export(finished, [ExportFormat.MESH])[ExportFormat.MESH] / "mesh.ply"
    triangles = len(trimesh.load_mesh(coarse).faces)
    finer = build_config(assignments=["mesh.voxel_px=1"])
    for stage in STAGES:
        assert stage.settings(finer) == stage.settings(before.config)
    finished.write_request(before.model_copy(update={"config": finer}))
    fine = export(finished, [ExportFormat.MESH], force=True)[ExportFormat.MESH] / "mesh.ply"
    assert len(trimesh.load_mesh(fine).faces) > 2 * triangles


def test_nothing_is_overwritten_without_force(finished: Workspace) -> None:
    folder = export(finished, [ExportFormat.DEPTH])[ExportFormat.DEPTH]
    extra = folder / "mine.txt"
    extra.write_text("kept")
    with pytest.raises(InputError, match="--force"):
        export(finished, [ExportFormat.CLOUD, ExportFormat.DEPTH])
    assert extra.read_text() == "kept"
    assert not (finished.root / "export" / "cloud").exists()
    export(finished, [ExportFormat.DEPTH], force=True)
    assert not extra.exists()
    assert (folder / "depth.json").is_file()


def test_what_is_not_an_export_is_not_replaced_even_with_force(
    finished: Workspace, tmp_path: Path
) -> None:
    precious = tmp_path / "mine" / "colmap"
    precious.mkdir(parents=True)
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not an earlier export"):
        export(finished, [ExportFormat.COLMAP], folder=tmp_path / "mine", force=True)
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_a_link_in_the_way_is_refused(finished: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (finished.root / "export").mkdir()
    (finished.root / "export" / "depth").symlink_to(elsewhere)
    with pytest.raises(InputError, match="not an earlier export"):
        export(finished, [ExportFormat.DEPTH], force=True)


def test_a_failure_leaves_the_old_export_and_no_half(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(finished, [ExportFormat.DEPTH])[ExportFormat.DEPTH]
    before = sorted(p.name for p in folder.rglob("*"))

    def fail(format_: ExportFormat, source: object, target: Path) -> str:
        (target / "half.png").write_bytes(b"half")
        raise InputError("broken.")

    monkeypatch.setattr(refdepth.pipeline.exports, "write_format", fail)
    with pytest.raises(InputError, match="broken"):
        export(finished, [ExportFormat.DEPTH], force=True)
    assert sorted(p.name for p in folder.rglob("*")) == before
    assert not list(finished.root.rglob(".tmp-*"))


def test_a_stop_is_obeyed_and_leaves_nothing(finished: Workspace) -> None:
    cancellation = Cancellation()
    cancellation.request()
    with pytest.raises(Interrupted):
        export(finished, [ExportFormat.COLMAP], cancellation=cancellation)
    assert not (finished.root / "export" / "colmap").exists()


BY_VIEW = (
    ExportFormat.COLMAP,
    ExportFormat.NERFSTUDIO,
    ExportFormat.DEPTH,
    ExportFormat.GRAPHDECO,
    ExportFormat.GSPLAT,
    ExportFormat.OPENMVS,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_files_do_not_depend_on_who_wrote_them(
    finished: Workspace, room: ExactRoom, tmp_path: Path, workers: RecordedExecutor
) -> None:
    left_out(finished, room, room.scene.names[1])
    finished.stage_dir("refine").joinpath(f"{room.scene.names[2]}.npz").unlink()
    options = ExportOptions(min_confidence=0.6, depth_files=tuple(DepthFile))
    export(finished, BY_VIEW, folder=tmp_path / "here", options=options)
    export(finished, BY_VIEW, folder=tmp_path / "there", options=options, executor=workers)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(workers.places) == 2
    assert "" not in workers.places
    works = [kind for kind, _ in workers.done]
    assert works.count("DenseViews") == 7  # photos of all views
    assert works.count("Frames") == works.count("DepthFiles") == 6
    assert works.count("InverseDepths") == works.count("Tracks") == 7


def test_who_does_not_see_the_folder_writes_nothing(finished: Workspace, tmp_path: Path) -> None:
    """Like a node of a cluster, to which --output means a disk of its own."""

    class Elsewhere(RecordedExecutor):
        def run(self, work: Any, *arguments: Any, **options: Any) -> Any:
            if hasattr(work, "folder"):
                work = dataclasses.replace(work, folder=tmp_path / "node" / work.folder.name)
            return super().run(work, *arguments, **options)

    with pytest.raises(ResourceError, match="machines see"):
        export(finished, BY_VIEW, folder=tmp_path / "mine", executor=Elsewhere())
    assert list((tmp_path / "mine").iterdir()) == []
    assert not (tmp_path / "node").exists()


class StopAfter(Silent):
    """Asks for a stop when so many views are done."""

    def __init__(self, views: float) -> None:
        self.cancellation = Cancellation()
        self._views = views

    def step(self, label: str, done: float, total: float | None) -> None:
        if done >= self._views:
            self.cancellation.request()


def test_a_stop_between_two_views_is_obeyed_and_leaves_nothing(
    finished: Workspace, executor: RecordedExecutor
) -> None:
    stop = StopAfter(2)
    with pytest.raises(Interrupted):
        export(
            finished,
            [ExportFormat.COLMAP],
            progress=stop,
            cancellation=stop.cancellation,
            executor=executor,
        )
    assert 2 <= len(executor.done) < 7
    assert list((finished.root / "export").iterdir()) == []


def test_all_passes_over_the_views_share_one_bar(finished: Workspace) -> None:
    seen: list[tuple[str, float, float | None]] = []

    class Bar(Silent):
        def step(self, label: str, done: float, total: float | None) -> None:
            seen.append((label, done, total))

    export(finished, [ExportFormat.NERFSTUDIO], progress=Bar())
    assert {(label, total) for label, _, total in seen} == {("depth images", 7)}
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert 6 <= done[-1] <= 7


def test_the_marker_says_which_files_and_which_mesh(finished: Workspace) -> None:
    options = ExportOptions(depth_files=(DepthFile.NPZ,))
    formats = [ExportFormat.DEPTH, ExportFormat.CLOUD, ExportFormat.MESH]
    markers = {
        format_: json.loads((folder / "refdepth-export.json").read_text())
        for format_, folder in export(finished, formats, options=options).items()
    }
    assert markers[ExportFormat.DEPTH]["files"] == ["npz"]
    assert markers[ExportFormat.CLOUD]["files"] == ["ply"]
    assert markers[ExportFormat.MESH]["mesh"]["voxel_px"] == build_config().mesh.voxel_px


def test_an_unfinished_workspace_says_what_to_run(finished: Workspace) -> None:
    finished.stage_dir("fuse").joinpath("cloud.ply").unlink()
    with pytest.raises(InputError, match="refdepth stage fuse"):
        export(finished, [ExportFormat.SPLAT])
    for path in finished.stage_dir("refine").glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match="refdepth stage refine"):
        export(finished, [ExportFormat.DEPTH])
    finished.stage_dir("sfm").joinpath("manifest.json").unlink()
    with pytest.raises(InputError, match="refdepth reconstruct"):
        export(finished, [ExportFormat.COLMAP])


def test_views_that_are_not_refined_yet_are_left_out(finished: Workspace) -> None:
    name = Results(finished).scene.names[0]
    finished.stage_dir("refine").joinpath(f"{name}.npz").unlink()
    folder = export(finished, [ExportFormat.NERFSTUDIO])[ExportFormat.NERFSTUDIO]
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    assert len(frames) == 6


def test_format_names() -> None:
    assert parse_formats(["splat", "depth", "splat"]) == (ExportFormat.SPLAT, ExportFormat.DEPTH)
    with pytest.raises(ConfigurationError, match=r"--to usd: .* colmap, nerfstudio"):
        parse_formats(["usd"])
    with pytest.raises(ConfigurationError, match="no format"):
        parse_formats([])


def test_what_a_mask_leaves_out_is_unknown_in_every_export(
    finished: Workspace, room: ExactRoom
) -> None:
    name = room.scene.names[0]
    left_out(finished, room, name)
    width = room.depth[name].shape[1]
    options = ExportOptions(depth_files=(DepthFile.NPZ,))
    targets = export(finished, [ExportFormat.DEPTH], options=options)
    with np.load(targets[ExportFormat.DEPTH] / "npz" / f"{name}.npz") as stored:
        assert not stored["depth"][:, : width // 2].any()
        assert_array_equal(stored["depth"][:, width // 2 :], room.depth[name][:, width // 2 :])


def left_out(workspace: Workspace, room: ExactRoom, name: str) -> None:
    """Masks the left half of a view."""
    masks = workspace.root / "sfm" / "undistorted" / "masks"
    masks.mkdir()
    height, width = room.depth[name].shape
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 2] = 0
    Image.fromarray(mask).save(masks / f"{name}.png")


def test_an_export_is_replaced_whole_or_not_at_all(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the process while the one before goes leaves one that can be replaced."""
    target = export(finished, [ExportFormat.DEPTH])[ExportFormat.DEPTH]

    def stopped(path: str, *arguments: Any, **options: Any) -> None:
        for file in [found for found in Path(path).rglob("*") if found.is_file()]:
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            export(finished, [ExportFormat.DEPTH], force=True)
    assert (target / "refdepth-export.json").is_file()
    export(finished, [ExportFormat.DEPTH], force=True)
    assert len(list((target / "png16").iterdir())) == 7
    finished.clean()
    assert [path.name for path in target.parent.iterdir()] == ["depth"]


def test_what_a_killed_export_has_left_elsewhere_goes_with_the_next_command(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(format_: ExportFormat, source: object, folder: Path) -> str:
        (folder / "half.ply").write_bytes(b"much")
        os._exit(9)

    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(refdepth.pipeline.exports, "write_format", killed)
    child = os.fork()
    if not child:
        export(finished, [ExportFormat.CLOUD], folder=elsewhere)
    os.waitpid(child, 0)
    (elsewhere / ".tmp-of-somebody-else").mkdir()
    assert len(list(elsewhere.iterdir())) == 2
    finished.clean()
    assert [path.name for path in elsewhere.iterdir()] == [".tmp-of-somebody-else"]
    assert not list(finished.root.glob(".tmp-*"))


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_is_a_file_is_refused(
    finished: Workspace, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file") as refused:
        export(finished, [ExportFormat.CLOUD], folder=tmp_path / place)
    assert "--output" in str(refused.value)


def test_a_full_workspace_can_be_exported_to_another_disk(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.is_relative_to(finished.root):
            raise ResourceError("no space left.", subject=path)
        path.write_bytes(content)

    monkeypatch.setattr(refdepth.pipeline.files, "write_bytes", full)
    for force in (False, True):
        export(finished, [ExportFormat.CLOUD], folder=tmp_path / "elsewhere", force=force)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["cloud"]
