"""Every way out, read back by other people's code, on a small room, and with `-m connections` on
the demo and on real photos."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import open3d as o3d
import pytest
import trimesh
from connections import Case
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree
from transforms_schema import TRANSFORMS_SCHEMA

from refdepth._pycolmap import pycolmap
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.fusion import FusionSettings, fuse
from refdepth.pipeline.exports import CloudFile, DepthFile, ExportFormat
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.types.camera import transform

DOCUMENTED = {"min_num_pixels": 2, "max_reproj_error": 0.75}
"""Options of `stereo_fusion` in docs/formats.md: one witness is enough, a point a pixel."""
DISC_PX = math.sqrt(math.pi) * 2
"""Side of a square as large as the disc of 2 px that COLMAP joins into one point by default."""


@pytest.fixture(scope="module")
def exports(case: Case) -> Path:
    """All formats with all their kinds of files."""
    parts = [("--to", kind) for kind in ExportFormat]
    parts += [("--depth-as", kind) for kind in DepthFile]
    # E57 is in metres, which few of the cases know.
    parts += [("--cloud-as", kind) for kind in CloudFile if kind is not CloudFile.E57]
    command = ["export", str(case.out), *(word for part in parts for word in part), "--force"]
    assert run([*command, "--quiet"]) == ExitCode.DONE
    return case.out / "export"


@pytest.fixture
def results(case: Case) -> Results:
    return Results(Workspace(case.out))


def cloud_of(path: Path) -> o3d.geometry.PointCloud:
    return o3d.io.read_point_cloud(str(path))


def voxel_size(results: Results, points: NDArray[np.float64]) -> float:
    """A pixel's width at the middle of the cloud."""
    view = results.scene.views[len(results.scene) // 2]
    z = transform(view.cam_from_world, points)[:, 2]
    return float(np.median(z[z > 0]) / view.camera.mean_focal_px)


def fused_by_colmap(workspace: Path, path: Path, **options: float) -> NDArray[np.float64]:
    asked = pycolmap.StereoFusionOptions()
    for name, value in options.items():
        setattr(asked, name, value)
    pycolmap.stereo_fusion(str(path), str(workspace), options=asked, output_type="PLY")
    return np.asarray(cloud_of(path).points)


def test_colmaps_fusion_agrees_with_ours(
    case: Case, exports: Path, results: Results, tmp_path: Path
) -> None:
    ours = np.asarray(cloud_of(results.cloud_path).points)
    theirs = fused_by_colmap(exports / "colmap", tmp_path / "fused.ply", **DOCUMENTED)
    distance = np.median(cKDTree(ours).query(theirs)[0]) / voxel_size(results, ours)
    share = len(theirs) / len(ours)
    case.say(f"{len(theirs)} points of COLMAP, {share:.2f} of ours, {distance:.2f} voxels")
    assert share >= 0.5
    assert distance < 2


def test_with_its_defaults_colmap_gives_as_sparse_a_cloud_as_we_at_its_spacing(
    case: Case, exports: Path, results: Results, tmp_path: Path
) -> None:
    ours = np.asarray(cloud_of(results.cloud_path).points)
    theirs = fused_by_colmap(exports / "colmap", tmp_path / "fused.ply")
    settings = FusionSettings(voxel_px=DISC_PX)
    spaced = fuse(results.scene, results.refined, settings)
    distance = np.median(cKDTree(ours).query(theirs)[0]) / voxel_size(results, ours)
    case.say(
        f"COLMAP's defaults give {len(theirs)} points, {len(theirs) / len(ours):.2f} "
        f"of ours, {len(theirs) / len(spaced):.2f} of ours at its spacing, {distance:.2f} voxels"
    )
    assert len(theirs) >= 0.5 * len(spaced)
    assert distance < 2


def test_pycolmap_reads_the_dense_workspace(exports: Path, results: Results) -> None:
    folder = exports / "colmap"
    model = pycolmap.Reconstruction(str(folder / "sparse"))
    assert {image.name for image in model.images.values()} == set(results.scene.names)
    for name in results.scene.names:
        stored = pycolmap.DepthMap()
        stored.read(str(folder / "stereo/depth_maps" / f"{name}.geometric.bin"))
        assert_array_equal(stored.to_array(), results.refined(name).depth)


def test_nerfstudios_file_fits_its_schema_and_holds_our_depth(
    exports: Path, results: Results
) -> None:
    folder = exports / "nerfstudio"
    document = json.loads((folder / "transforms.json").read_text())
    jsonschema.validate(document, TRANSFORMS_SCHEMA)
    assert len(document["frames"]) == len(results.scene)
    unit = document["depth_unit_scale_factor"]
    for frame, name in zip(document["frames"], results.scene.names, strict=True):
        assert (folder / frame["file_path"]).is_file()
        with Image.open(folder / frame["depth_file_path"]) as picture:
            levels = np.asarray(picture)
        assert_allclose(levels * unit, results.refined(name).depth, atol=0.51 * unit)
    points = cloud_of(folder / document["ply_file_path"])
    assert len(points.points) == len(cloud_of(results.cloud_path).points)


def test_all_kinds_of_depth_files_hold_the_depth(exports: Path, results: Results) -> None:
    folder = exports / "depth"
    unit = json.loads((folder / "depth.json").read_text())["png16"]["units_per_level"]
    for name in results.scene.names:
        found = results.refined(name)
        with Image.open(folder / "png16" / f"{name}.png") as picture:
            assert_allclose(np.asarray(picture) * unit, found.depth, atol=0.51 * unit)
        with Image.open(folder / "tiff32" / f"{name}.tiff") as picture:
            assert_array_equal(np.asarray(picture), found.depth)
        with np.load(folder / "npz" / f"{name}.npz") as stored:
            assert_array_equal(stored["depth"], found.depth)
            assert_array_equal(stored["confidence"], found.confidence)
        assert_array_equal(np.load(folder / "npy" / f"{name}.npy"), found.depth)
        with Image.open(folder / "pictures" / f"{name}.jpg") as picture:
            assert (picture.mode, picture.size[::-1]) == ("RGB", found.depth.shape)


def test_splat_trainers_find_what_they_need(exports: Path, results: Results) -> None:
    folder = exports / "splat"
    model = pycolmap.Reconstruction(str(folder / "sparse" / "0"))
    points = cloud_of(folder / "sparse" / "0" / "points3D.ply")
    assert model.num_reg_images() == len(results.scene)
    assert {camera.model_name for camera in model.cameras.values()} == {"PINHOLE"}
    assert model.num_points3D() == len(results.scene.points) + len(points.points)
    assert len(points.points) == min(len(cloud_of(results.cloud_path).points), 300_000)
    for image in model.images.values():
        with Image.open(folder / "images" / image.name) as picture:
            camera = model.cameras[image.camera_id]
            assert picture.size == (camera.width, camera.height)


def test_the_mesh_lies_on_the_cloud(case: Case, exports: Path, results: Results) -> None:
    glb = trimesh.load_scene(exports / "mesh" / "mesh.glb").to_geometry()
    ply = o3d.io.read_triangle_mesh(str(exports / "mesh" / "mesh.ply"))
    vertices = np.asarray(ply.vertices)
    assert len(glb.faces) == len(ply.triangles) > 1000
    # glTF's y points up: half a turn about x.
    assert_allclose(
        glb.bounds, np.sort((vertices.min(0), vertices.max(0)) * np.array([1, -1, -1]), 0)
    )
    ours = np.asarray(cloud_of(results.cloud_path).points)
    distance = np.median(cKDTree(ours).query(vertices)[0]) / voxel_size(results, ours)
    case.say(f"mesh of {len(glb.faces)} triangles, {distance:.2f} voxels from the cloud")
    assert distance < 2


def test_the_cloud_is_the_same_in_all_its_files(exports: Path, results: Results) -> None:
    laspy = pytest.importorskip("laspy")
    ours = cloud_of(results.cloud_path)
    points = np.asarray(ours.points)
    ply = cloud_of(exports / "cloud" / "cloud.ply")
    assert_array_equal(np.asarray(ply.points), points)
    for kind in ("las", "laz"):
        stored = laspy.read(exports / "cloud" / f"cloud.{kind}")
        assert_allclose(stored.xyz, points, atol=1e-6 * np.ptp(points, axis=0).max())
        assert_array_equal(
            np.asarray(stored.red) // 257, np.rint(np.asarray(ours.colors)[:, 0] * 255)
        )
        assert stored["confidence"].max() <= 1
    with laspy.CopcReader.open(str(exports / "cloud" / "cloud.copc.laz")) as reader:
        stored = reader.query()
    assert len(stored) == len(points)
    lowest = [np.min(axis) for axis in (stored.x, stored.y, stored.z)]
    assert_allclose(lowest, points.min(axis=0), atol=1e-6)


def test_graphdecos_formula_gives_the_inverse_depth(exports: Path, results: Results) -> None:
    folder = exports / "graphdeco"
    params = json.loads((folder / "sparse/0/depth_params.json").read_text())
    for name in results.views("refine"):
        key, depth = name.rpartition(".")[0], results.refined(name).depth
        with Image.open(folder / "depths" / f"{key}.png") as picture:
            inverse = np.asarray(picture).astype(np.float32) / float(2**16) * params[key]["scale"]
        known = depth > 0
        step = params[key]["scale"] / 65536
        assert_allclose(inverse[known], 1 / depth[known], rtol=1e-6, atol=step)


def test_every_view_has_dense_tracks(case: Case, exports: Path, results: Results) -> None:
    model = pycolmap.Reconstruction(str(exports / "gsplat" / "sparse" / "0"))
    counts = [image.num_points3D for image in model.images.values()]
    case.say(f"points with tracks in a view: {min(counts)} to {max(counts)}")
    assert len(counts) == len(results.scene)
    assert min(counts) >= 1000
