"""Starting from an existing COLMAP model or from known poses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.errors import InputError, StageError
from refdepth.ingest import PrepareSettings, prepare_photo
from refdepth.io.colmap_model import read_scene
from refdepth.sfm.model_entry import use_model
from refdepth.sfm.poses_entry import use_poses
from refdepth.sfm.settings import SfmSettings
from refdepth.sfm.summary import SfmSummary
from refdepth.sfm.undistort import warp_nearest
from refdepth.types.scene import Scene


def scene_of(out: Path) -> Scene:
    return read_scene(out / "undistorted/sparse", out / "undistorted/images")


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_our_own_model_gives_the_same_workspace(photo_set, tmp_path: Path, kind: str) -> None:
    model = photo_set.out / "sparse"
    if kind == "text":
        (tmp_path / "given/sparse").mkdir(parents=True)
        pycolmap.Reconstruction(model).write_text(tmp_path / "given/sparse")
        model = tmp_path / "given"  # it is found inside
    summary = use_model(model, photo_set.images, photo_set.photos, tmp_path / "sfm")
    assert summary.registered == photo_set.summary.registered
    assert summary.points == photo_set.summary.points
    for path in (photo_set.out / "undistorted/images").iterdir():
        assert (tmp_path / "sfm/undistorted/images" / path.name).read_bytes() == path.read_bytes()
    if kind == "binary":
        for path in (photo_set.out / "undistorted/sparse").iterdir():
            made = tmp_path / "sfm/undistorted/sparse" / path.name
            assert made.read_bytes() == path.read_bytes()


def test_a_model_of_photos_under_other_names_and_sizes_fits(photo_set, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    small = PrepareSettings(max_size=160)
    photos = [
        prepare_photo(
            photo_set.images / photo.name,
            tmp_path / f"images/sub_{index}",
            small,
            original=f"sub/{photo.name}",
        )
        for index, photo in enumerate(photo_set.photos[:5])
    ]
    summary = use_model(photo_set.out / "sparse", tmp_path / "images", photos, tmp_path / "sfm")
    assert summary.registered == tuple(photo.name for photo in photos)
    assert "1 of the model's images" in summary.warnings[0]
    before, after = scene_of(photo_set.out), scene_of(tmp_path / "sfm")
    one, other = before[photo_set.photos[2].name], after[photos[2].name]
    np.testing.assert_allclose(other.cam_from_world, one.cam_from_world)
    sparse = after.sparse_depth(other)
    assert len(sparse) > 50
    points = after.points.xyz[sparse.point_index]
    seen, _ = other.camera.project(
        points @ other.cam_from_world[:3, :3].T + other.cam_from_world[:3, 3]
    )
    assert np.median(np.linalg.norm(seen - sparse.xy, axis=1)) < 0.3


def test_a_model_of_stored_photos_does_not_go_with_upright_ones(photo_set, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    stored, upright = PrepareSettings(upright=False), PrepareSettings()

    def use(case: str, settings: PrepareSettings, *, turned: bool) -> SfmSummary:
        """`turned`: the file holds the photo upside down, else as the model knows it."""
        (tmp_path / case / "images").mkdir(parents=True)
        photos = []
        for photo in photo_set.photos:
            path = tmp_path / case / photo.name
            with Image.open(photo_set.images / photo.name) as picture:
                picture.rotate(180 if turned else 0).save(path, exif=exif, quality=98)
            stem = tmp_path / case / "images" / path.stem
            photos.append(prepare_photo(path, stem, settings, original=photo.name))
        folder = tmp_path / case
        return use_model(photo_set.out / "sparse", folder / "images", photos, folder / "sfm")

    with pytest.raises(InputError, match=r"as it is stored.*upright=false"):
        use("told", upright, turned=False)
    assert use("set", stored, turned=False).failed == ()
    assert use("right", upright, turned=True).failed == ()


@pytest.mark.parametrize("missing", [{1: "all"}, {2: "one"}])
def test_photos_of_a_rig_are_used_without_the_others(
    tmp_path: Path, missing: dict[int, str]
) -> None:
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=2, num_frames_per_rig=4, num_points3D=200
    )
    options.camera_width, options.camera_height = 160, 120
    options.camera_params = [120.0, 80.0, 60.0, 0.0]
    given = pycolmap.synthesize_dataset(options)
    for folder in ("model", "photos", "images"):
        (tmp_path / folder).mkdir()
    given.write(tmp_path / "model")
    ((camera, which),) = missing.items()
    gone = [image.image_id for image in given.images.values() if image.camera_id == camera]
    gone = gone if which == "all" else gone[:1]
    rng, photos, expected = np.random.default_rng(0), [], {}
    for image in given.images.values():
        if image.image_id in gone:
            continue
        path = tmp_path / "photos" / f"{image.image_id}.png"
        Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8)).save(path)
        row = prepare_photo(path, tmp_path / "images" / path.stem, original=image.name)
        photos.append(row)
        expected[row.name] = image
    summary = use_model(tmp_path / "model", tmp_path / "images", photos, tmp_path / "sfm")
    assert set(summary.registered) == set(expected)
    assert f"{len(gone)} of the model's images" in summary.warnings[0]
    made = pycolmap.Reconstruction(tmp_path / "sfm/sparse")
    for image in made.images.values():
        before = expected[image.name]
        pose = image.cam_from_world().matrix()
        np.testing.assert_allclose(pose, before.cam_from_world().matrix(), atol=1e-9)
        assert image.num_points3D > 0.5 * before.num_points3D
        for seen, known in zip(image.points2D, before.points2D, strict=True):
            if seen.has_point3D():
                point = given.point3D(known.point3D_id)
                np.testing.assert_allclose(made.point3D(seen.point3D_id).xyz, point.xyz)


def test_a_model_without_points_gets_them(photo_set, tmp_path: Path) -> None:
    model = pycolmap.Reconstruction(photo_set.out / "sparse")
    for point_id in list(model.points3D):
        model.delete_point3D(point_id)
    (tmp_path / "bare").mkdir()
    model.write(tmp_path / "bare")
    summary = use_model(tmp_path / "bare", photo_set.images, photo_set.photos, tmp_path / "sfm")
    assert summary.points > 0.8 * photo_set.summary.points
    before, after = scene_of(photo_set.out), scene_of(tmp_path / "sfm")
    for view in before.views:
        np.testing.assert_allclose(after[view.name].center, view.center, atol=1e-9)


def test_half_a_model_is_refused(photo_set, tmp_path: Path) -> None:
    def refused(folder: Path, reason: str) -> None:
        with pytest.raises(InputError, match=reason) as caught:
            use_model(folder, photo_set.images, photo_set.photos, tmp_path / "sfm")
        assert str(folder) in str(caught.value)

    refused(tmp_path / "nowhere", "no COLMAP model")
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        folder = tmp_path / f"without {name}"
        shutil.copytree(photo_set.out / "sparse", folder)
        (folder / name).unlink()
        refused(folder, "no COLMAP model")
        folder = tmp_path / f"cut {name}"
        shutil.copytree(photo_set.out / "sparse", folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])
        refused(folder, "entries are whole")
    folder = tmp_path / "text"
    folder.mkdir()
    for name in ("cameras", "images", "points3D"):
        (folder / f"{name}.txt").write_text("1 PINHOLE many words\n")
    refused(folder, "not a COLMAP model")


def test_a_model_of_other_photos_is_refused(photo_set, tmp_path: Path) -> None:
    photos = [
        replace(photo, name=f"x{photo.name}", original=f"x{photo.name}")
        for photo in photo_set.photos
    ]
    with pytest.raises(InputError, match="none of the model's 6 images"):
        use_model(photo_set.out / "sparse", photo_set.images, photos, tmp_path / "sfm")
    turned = [replace(photo, width=240, height=320, orientation=6) for photo in photo_set.photos]
    with pytest.raises(InputError, match="upright=false"):
        use_model(photo_set.out / "sparse", photo_set.images, turned, tmp_path / "sfm")


def transforms(photo_set, **fields: Any) -> dict[str, Any]:
    """What nerfstudio would write for the exact cameras."""
    K = photo_set.truth.camera.K
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {
            "file_path": f"images/{view.name}",
            "transform_matrix": (np.linalg.inv(view.cam_from_world) @ flip).tolist(),
        }
        for view in photo_set.truth.views
    ]
    shared = {"w": 320, "h": 240, "fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    return {**shared, "frames": frames, **fields}


def write(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


def test_known_poses_stay_and_points_get_their_exact_depth(photo_set, tmp_path: Path) -> None:
    path = write(tmp_path, transforms(photo_set))
    summary = use_poses(path, photo_set.images, photo_set.photos, tmp_path / "sfm")
    assert summary.failed == ()
    assert summary.warnings == ()
    scene = scene_of(tmp_path / "sfm")
    for truth in photo_set.truth.views:
        view = scene[truth.name]
        np.testing.assert_allclose(view.cam_from_world, truth.cam_from_world, atol=1e-9)
        np.testing.assert_allclose(view.camera.K, truth.camera.K)
        sparse = scene.sparse_depth(view)
        assert len(sparse) > 100
        column, row = np.floor(sparse.xy).astype(int).T
        assert np.median(np.abs(sparse.depth / truth.depth[row, column] - 1)) < 0.005


def test_intrinsics_are_refined_where_asked(photo_set, tmp_path: Path) -> None:
    exact = photo_set.truth.camera.K[0, 0]
    content = transforms(photo_set, fl_x=exact * 1.03, fl_y=exact * 1.03)
    path = write(tmp_path, content)
    for refine, tolerance in ((False, 1e-9), (True, 0.03)):
        out = tmp_path / f"sfm-{refine}"
        settings = SfmSettings(refine_intrinsics=refine)
        use_poses(path, photo_set.images, photo_set.photos, out, settings)
        (camera,) = pycolmap.Reconstruction(out / "sparse").cameras.values()
        error = abs(camera.mean_focal_length() / exact - 1)
        assert (abs(error - 0.03) < tolerance) if not refine else error < 0.01


def test_intrinsics_without_a_size_shrink_with_the_photos(photo_set, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photos = [
        prepare_photo(
            photo_set.images / photo.name,
            tmp_path / "images" / photo.original.removesuffix(".jpg"),
            PrepareSettings(max_size=160),
            original=photo.original,
        )
        for photo in photo_set.photos
    ]
    content = transforms(photo_set)
    del content["w"], content["h"]
    summary = use_poses(write(tmp_path, content), tmp_path / "images", photos, tmp_path / "sfm")
    assert summary.failed == ()
    exact = photo_set.truth.camera.K * [[0.5], [0.5], [1]]
    for view in scene_of(tmp_path / "sfm").views:
        np.testing.assert_allclose(view.camera.K, exact)


def test_frames_without_photo_are_said_and_poses_of_others_refused(
    photo_set, tmp_path: Path
) -> None:
    path = write(tmp_path, transforms(photo_set))
    photos = photo_set.photos[:4]
    summary = use_poses(path, photo_set.images, photos, tmp_path / "sfm")
    assert len(summary.registered) == 4
    assert "2 of the 6 frames" in summary.warnings[0]
    with pytest.raises(InputError, match="1 of its 6 frames"):
        use_poses(path, photo_set.images, photos[:1], tmp_path / "one")


def test_poses_that_do_not_fit_the_photos_are_refused_or_doubted(photo_set, tmp_path: Path) -> None:
    content = transforms(photo_set)
    frames = content["frames"]
    exact = [frame["transform_matrix"] for frame in frames]

    def give(matrices: list[Any], out: str) -> SfmSummary:
        for frame, matrix in zip(frames, matrices, strict=True):
            frame["transform_matrix"] = np.asarray(matrix).tolist()
        path = write(tmp_path, content)
        return use_poses(path, photo_set.images, photo_set.photos, tmp_path / out)

    with pytest.raises(StageError, match="agree with the given poses"):
        give([np.asarray(matrix) @ np.diag([1, -1, -1, 1]) for matrix in exact], "opencv axes")
    with pytest.raises(InputError, match="one place"):
        give([np.eye(4)] * 6, "one place")
    doubted = give([exact[index] for index in (3, 0, 5, 1, 4, 2)], "mixed up")
    assert "fit the poses" in doubted.warnings[0]


def test_the_nearest_pixel_is_found_through_the_distortion() -> None:
    distorted = pycolmap.Camera(
        camera_id=1, model="SIMPLE_RADIAL", width=80, height=60, params=[70, 40, 30, 0.2]
    )
    pinhole = pycolmap.Camera(
        camera_id=2, model="PINHOLE", width=70, height=50, params=[72, 71, 35, 25]
    )
    values = np.arange(60 * 80, dtype=np.int64).reshape(60, 80) + 1
    warped = warp_nearest(values, distorted, pinhole)
    for row, column in [(0, 0), (10, 50), (25, 35), (49, 69)]:
        x, y = (column + 0.5 - 35) / 72, (row + 0.5 - 25) / 71
        factor = 1 + 0.2 * (x * x + y * y)
        expected = int(70 * x * factor + 40), int(70 * y * factor + 30)
        assert warped[row, column] == values[expected[1], expected[0]]
    blank = Image.fromarray(warp_nearest(np.full((60, 80), 255, np.uint8), distorted, pinhole))
    assert blank.getextrema() == (255, 255)
