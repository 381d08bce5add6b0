"""Exports for trainers and OpenMVS from a workspace, read back by other code than ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.errors import ConfigurationError, InputError, UnavailableError
from refdepth.ingest.photos import PreparedPhoto
from refdepth.pipeline.exports import (
    CloudFile,
    DepthFile,
    ExportFormat,
    ExportOptions,
    Grid,
    export,
)
from refdepth.pipeline.files import write_json
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.workspace import Workspace

LENS = [140.0, 80, 60, -0.08]


def exported(workspace: Workspace, format_: ExportFormat, **options: object) -> Path:
    return export(workspace, [format_], options=ExportOptions(**options))[format_]


def model_of(folder: Path) -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(str(folder / "sparse" / "0"))


def test_graphdecos_reader_gets_the_refined_depth_of_every_pixel(
    finished: Workspace, room: ExactRoom
) -> None:
    missing = room.scene.names[4]
    finished.stage_dir("refine").joinpath(f"{missing}.npz").unlink()
    folder = exported(finished, ExportFormat.GRAPHDECO)
    params = json.loads((folder / "sparse/0/depth_params.json").read_text())
    median = np.median([one["scale"] for one in params.values() if one["scale"] > 0])
    for image in model_of(folder).images.values():
        key = image.name[: -len(image.name.split(".")[-1]) - 1]
        assert (folder / "images" / image.name).is_file()
        with Image.open(folder / "depths" / f"{key}.png") as picture:
            levels = np.asarray(picture)
        scale, offset = params[key]["scale"], params[key]["offset"]
        if image.name == missing:
            assert scale < 0.2 * median
            continue
        assert 0.2 * median < scale < 5 * median
        inverse = levels.astype(np.float32) / float(2**16) * scale + offset
        assert_allclose(inverse, 1 / room.depth[image.name], rtol=1e-6, atol=0.5 * scale / 65536)
    assert {camera.model_name for camera in model_of(folder).cameras.values()} == {"PINHOLE"}


def test_gsplat_finds_dense_tracks_in_every_view(finished: Workspace, room: ExactRoom) -> None:
    model = model_of(exported(finished, ExportFormat.GSPLAT))
    assert 1 not in {point.track.length() for point in model.points3D.values()}
    assert min(image.num_points3D for image in model.images.values()) >= 1000
    for image in list(model.images.values())[::3]:
        camera, pose = model.cameras[image.camera_id], image.cam_from_world().matrix()
        assert all(point.has_point3D() for point in image.points2D)
        pixels = np.array([point.xy for point in image.points2D])
        xyz = np.array([model.points3D[point.point3D_id].xyz for point in image.points2D])
        local = xyz @ pose[:, :3].T + pose[:, 3]
        assert_allclose(camera.img_from_cam(local), pixels, atol=1e-6)  # asked for: 0.5 px
        column, row = np.floor(pixels).astype(int).T
        ratio = room.depth[image.name][row, column] / local[:, 2] - 1
        assert np.abs(ratio).max() <= 0.01  # fuse.max_depth_ratio


def test_tracks_are_spread_over_the_picture_and_hold_no_masked_pixel(
    finished: Workspace, room: ExactRoom
) -> None:
    name = room.scene.names[0]
    masks = finished.root / "sfm" / "undistorted" / "masks"
    masks.mkdir()
    height, width = room.depth[name].shape
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 2] = 0
    Image.fromarray(mask).save(masks / f"{name}.png")
    folder = exported(finished, ExportFormat.GSPLAT)
    image = model_of(folder).find_image_with_name(name)
    xy = np.array([point.xy for point in image.points2D])
    assert (xy[:, 0] >= width // 2).all()
    counts, _, _ = np.histogram2d(*xy.T, bins=[4, 6], range=[[width / 2, width], [0, height]])
    assert counts.min() > 0.2 * counts.mean()
    with Image.open(folder / "depth_masks" / f"{name}.png") as picture:
        assert_array_equal(np.asarray(picture), mask)


def test_the_initial_points_are_capped(finished: Workspace) -> None:
    options = {"initial_points": 22_000}
    folder = exported(finished, ExportFormat.GSPLAT, **options)
    model = model_of(folder)
    tracked = sum(point.track.length() > 0 for point in model.points3D.values())
    assert 10_000 < tracked < 22_000 == model.num_points3D()
    cloud = (folder / "sparse/0/points3D.ply").read_bytes()
    assert b"vertex 00000000000000022000\n" in cloud


def test_weights_are_the_confidence_and_zero_only_where_depth_is_unknown(
    finished: Workspace, room: ExactRoom
) -> None:
    name = room.scene.names[0]
    expected = room.load(name).confidence
    keep = expected >= 0.75
    for format_ in (ExportFormat.GRAPHDECO, ExportFormat.GSPLAT, ExportFormat.NERFSTUDIO):
        folder = exported(finished, format_, min_confidence=0.75)
        weights = np.asarray(Image.open(folder / "confidence" / f"{name}.png"))
        assert weights.dtype == np.uint8
        assert_array_equal(weights > 0, keep)
        assert_allclose(weights[keep] / 255, expected[keep], atol=0.5 / 255 + 1e-6)
        mask = np.asarray(Image.open(folder / "depth_masks" / f"{name}.png"))
        assert_array_equal(mask, np.where(keep, 255, 0))


def test_nerfstudios_normals_are_those_of_the_surface(finished: Workspace, room: ExactRoom) -> None:
    folder = exported(finished, ExportFormat.NERFSTUDIO)
    document = json.loads((folder / "transforms.json").read_text())
    assert "z along the optical axis" in document["depth"]
    frame = document["frames"][2]
    view = room.scene.views[2]
    assert frame["normal_file_path"] == f"normals/{view.name}.png"
    levels = np.asarray(Image.open(folder / frame["normal_file_path"])).astype(np.float64)
    known, normals = levels.any(axis=-1), levels / 127.5 - 1
    points = view.camera.unproject(room.depth[view.name])
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    exact = np.cross(down, across)
    exact /= np.linalg.norm(exact, axis=-1, keepdims=True)
    cosine = (normals * exact).sum(axis=-1)[known]
    assert known.mean() > 0.9
    assert np.median(cosine) > 0.999


def test_openmvs_has_a_depth_map_for_each_image_id(finished: Workspace, room: ExactRoom) -> None:
    folder = exported(finished, ExportFormat.OPENMVS)
    model = pycolmap.Reconstruction(str(folder / "sparse"))
    assert len(list(folder.glob("*.dmap"))) == len(room.scene)
    for image_id, image in model.images.items():
        data = (folder / f"depth{image_id:04d}.dmap").read_bytes()
        assert f"images/{image.name}".encode() in data
        assert (folder / "images" / image.name).is_file()
        assert room.depth[image.name].tobytes() in data


@pytest.mark.parametrize(
    "format_", [ExportFormat.GRAPHDECO, ExportFormat.GSPLAT, ExportFormat.OPENMVS]
)
def test_no_depth_left_is_an_error_that_says_what_to_lower(
    finished: Workspace, format_: ExportFormat
) -> None:
    for path in finished.stage_dir("refine").glob("*.npz"):
        with np.load(path) as stored:
            arrays = {name: np.zeros_like(values) for name, values in stored.items()}
        np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"no view has any depth left.*--min-confidence"):
        exported(finished, format_)
    assert not (finished.root / "export" / format_).exists()


def distorted(workspace: Workspace, room: ExactRoom) -> None:
    """The workspace as if its photos had come with lens distortion."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="SIMPLE_RADIAL", width=160, height=120, params=LENS, camera_id=1)
    )
    for number, view in enumerate(room.scene.views, start=1):
        image = pycolmap.Image(name=view.name, camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(view.cam_from_world[:3]))
    sparse = workspace.stage_dir("sfm") / "sparse"
    sparse.mkdir()
    model.write(str(sparse))
    size = {"width": 160, "height": 120, "stored_width": 160, "stored_height": 120}
    photos = [PreparedPhoto(name=name, original=f"DSC_{name}", **size) for name in room.scene.names]
    table = {"photos": [photo.to_dict() for photo in photos]}
    write_json(workspace.stage_dir("prepare") / "table.json", table)


def test_original_grid_and_ray_depth_are_those_of_the_lens(
    finished: Workspace, room: ExactRoom
) -> None:
    distorted(finished, room)
    kinds = (DepthFile.NPY, DepthFile.PNG16, DepthFile.TIFF32, DepthFile.NPZ)
    folder = exported(
        finished, ExportFormat.DEPTH, depth_files=kinds, grid=Grid.ORIGINAL, ray_depth=True
    )
    index = json.loads((folder / "depth.json").read_text())
    assert (index["depth"], index["grid"]) == (
        "distance along the ray",
        "original photo, with lens distortion",
    )
    view = room.scene.views[2]
    row = index["views"][view.name]
    camera = pycolmap.Camera(
        model=row["camera_model"],
        width=row["width"],
        height=row["height"],
        params=row["camera_params"],
    )
    found = np.load(folder / "npy" / f"{view.name}.npy")
    known = found > 0
    assert 0.8 < known.mean() <= 1
    rows, columns = np.nonzero(known)
    rays = np.c_[camera.cam_from_img(np.stack([columns, rows], axis=1) + 0.5), np.ones(len(rows))]
    points = rays * (found[known] / np.linalg.norm(rays, axis=1))[:, None]
    xy, z = view.camera.project(points)
    column, row_ = np.floor(xy).astype(int).T
    ratio = z / room.depth[view.name][row_, column] - 1
    assert np.median(np.abs(ratio)) < 0.002  # a pixel's depth and that at its place beside it
    assert (np.abs(ratio) < 0.02).mean() > 0.99
    unit = index["png16"]["units_per_level"]
    with Image.open(folder / "png16" / f"{view.name}.png") as picture:
        assert_allclose(np.asarray(picture) * unit, found, atol=0.51 * unit)
        assert "distance along the ray" in picture.text["Description"]
    with Image.open(folder / "tiff32" / f"{view.name}.tiff") as picture:
        assert_array_equal(np.asarray(picture), found)
        assert "original photo" in picture.tag_v2[270]
    with np.load(folder / "npz" / f"{view.name}.npz") as stored:
        assert_array_equal(stored["depth"], found)
        assert "unknown: 0" in str(stored["about"])
        assert stored["confidence"].shape == found.shape


def test_the_original_grid_needs_the_lens(finished: Workspace) -> None:
    with pytest.raises(InputError, match=r"sparse: is gone.*--grid original"):
        exported(finished, ExportFormat.DEPTH, grid=Grid.ORIGINAL)


def test_ray_depth_for_a_format_that_has_z_is_refused(finished: Workspace) -> None:
    for options in (ExportOptions(ray_depth=True), ExportOptions(grid=Grid.ORIGINAL)):
        with pytest.raises(ConfigurationError, match=r"--ray-depth and --grid: .*--to depth"):
            export(finished, [ExportFormat.COLMAP], options=options)
    assert not (finished.root / "export").exists()


def test_clouds_for_surveyors(finished: Workspace) -> None:
    pye57, laspy = pytest.importorskip("pye57"), pytest.importorskip("laspy")
    kinds = (CloudFile.PLY, CloudFile.COPC, CloudFile.E57)
    with pytest.raises(InputError, match=r"cloud\.e57: .*--depth-unit"):
        exported(finished, ExportFormat.CLOUD, cloud_files=kinds)
    assert not (finished.root / "export" / "cloud").exists()
    stage = finished.stage_dir("sfm")
    manifest = Manifest.read(stage)
    assert manifest is not None
    manifest.summary["metres_per_unit"] = 2.0
    manifest.write(stage)
    folder = exported(finished, ExportFormat.CLOUD, cloud_files=kinds)
    with laspy.CopcReader.open(str(folder / "cloud.copc.laz")) as reader:
        copc = reader.query()
    with pye57.E57(str(folder / "cloud.e57")) as file:
        e57 = file.read_scan(0, ignore_missing_fields=True)
    assert len(copc) == len(e57["cartesianX"]) > 30_000
    assert_allclose(e57["cartesianX"].max(), 2 * np.max(copc.x), atol=1e-5)
    assert b"comment unit: SfM units; metres_per_unit: 2.0\n" in (folder / "cloud.ply").read_bytes()


def test_a_missing_library_leaves_no_half_export(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[exr\]"):
        exported(finished, ExportFormat.DEPTH, depth_files=(DepthFile.EXR,))
    assert not (finished.root / "export" / "depth").exists()
