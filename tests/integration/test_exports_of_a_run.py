"""Exports of a real run: COLMAP's own fusion goes on from ours, trainers' layouts are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from cli.exit_codes import ExitCode
from cli.main import run
from pipeline.export import ExportFormat
from pipeline.results import Results
from pipeline.workspace import Workspace
from refdepth._pycolmap import pycolmap
from refdepth.camera import transform
from refdepth.formats.ply import read_ply_points
from refdepth.synthetic import make_scene


def check_exports(root: Path) -> None:
    """Every format, in one command, read back."""
    formats = [part for format_ in ExportFormat for part in ("--to", format_)]
    assert run(["export", str(root), *formats, "--quiet"]) == ExitCode.DONE
    export, scene = root / "export", Results(Workspace(root)).scene
    check_colmap_fusion(root)
    frames = json.loads((export / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert len(frames) == len(scene)
    model = pycolmap.Reconstruction(str(export / "splat" / "sparse" / "0"))
    assert model.num_reg_images() == len(scene)
    assert len(list((export / "depth" / "png16").iterdir())) == len(scene)
    mesh = trimesh.load_scene(export / "mesh" / "mesh.glb").to_geometry()
    assert len(mesh.faces) > 1000
    assert (export / "cloud" / "cloud.ply").is_file()


def check_colmap_fusion(root: Path) -> None:
    """COLMAP's fusion gives at least half as many points, median distance under two voxels."""
    options = pycolmap.StereoFusionOptions()
    # As docs/formats.md says: a point a pixel, and one witness is enough.
    options.min_num_pixels = 2
    options.max_reproj_error = 1
    path = root / "colmap.ply"
    workspace = str(root / "export" / "colmap")
    pycolmap.stereo_fusion(str(path), workspace, options=options, output_type="PLY")
    theirs, ours = read_ply_points(path), read_ply_points(root / "fuse" / "cloud.ply")
    assert len(theirs) >= 0.5 * len(ours)
    scene = Results(Workspace(root)).scene
    view = scene.views[len(scene) // 2]
    z = transform(view.cam_from_world, ours)[:, 2]
    voxel = np.median(z[z > 0]) / view.camera.mean_focal_px
    assert np.median(cKDTree(ours).query(theirs)[0]) < 2 * voxel


def test_a_synthetic_run(tmp_path: Path) -> None:
    make_scene(views=6, width=240, height=180).write_photos(tmp_path / "photos")
    command = ["reconstruct", str(tmp_path / "photos"), str(tmp_path / "out"), "--quiet"]
    assert run([*command, "--quality", "fast", "--depth-model", "sweep"]) == ExitCode.DONE
    assert (tmp_path / "out" / "report.html").is_file()
    check_exports(tmp_path / "out")


@pytest.mark.shared
def test_a_run_on_real_photos(shared_scenes: Path, tmp_path: Path) -> None:
    source = shared_scenes / "hololens"
    photos = sorted((source / "images").iterdir())[:10]
    if not photos or not (source / "mono").is_dir():
        pytest.skip("needs hololens/images and hololens/mono")
    (tmp_path / "photos").mkdir()
    for photo in photos:
        shutil.copyfile(photo, tmp_path / "photos" / photo.name)
    command = ["reconstruct", str(tmp_path / "photos"), str(tmp_path / "out"), "--quiet"]
    maps = ["--depth-maps", str(source / "mono"), "--depth-kind", "inverse_affine"]
    assert run([*command, "--quality", "fast", *maps]) == ExitCode.DONE
    check_exports(tmp_path / "out")
