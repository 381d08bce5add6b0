"""Evaluation against a scene whose errors are known because they were put in."""

import json
from dataclasses import replace

import numpy as np
import pytest

from refdepth.errors import InputError
from refdepth.evaluation import (
    Scale,
    align_by_points,
    align_by_poses,
    cloud_table,
    depth_tables,
    evaluate_cloud,
    evaluate_depth,
    scale_from_points,
    true_cloud,
    view_table,
)
from refdepth.evaluation.correspondence import true_pixels
from refdepth.evaluation.ground_truth import TrueDepth, open_ground_truth
from refdepth.geometry.lens import InputPhoto
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, SparsePoints, View

WIDTH, HEIGHT = 60, 40
UNIT_M = 0.5  # one scene unit in metres
K = np.array([[50.0, 0, 30], [0, 50.0, 20], [0, 0, 1]])
NAMES = ("0.jpg", "1.jpg", "2.jpg")


def depth_of(index: int) -> np.ndarray:
    """True depth of a view in scene units: a slanted plane."""
    _, x = np.mgrid[:HEIGHT, :WIDTH]
    return (6 + index + 0.01 * x).astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(0)
    camera = PinholeCamera(K=K, width=WIDTH, height=HEIGHT)
    xyz, views = [], []
    for index, name in enumerate(NAMES):
        center = np.array([index, 0.3 * index**2, 0.0])
        pixels = np.stack([rng.integers(0, WIDTH, 20), rng.integers(0, HEIGHT, 20)], axis=1) + 0.5
        z = depth_of(index)[(pixels[:, 1]).astype(int), pixels[:, 0].astype(int)]
        start = 20 * index
        xyz.append(camera.unproject(z, pixels) + center)
        views.append(
            View(
                name=name,
                camera=camera,
                cam_from_world=pose_matrix(np.eye(3), -center),
                point_index=np.arange(start, start + 20),
                point_xy=pixels,
                image_path=tmp_path / name,
            )
        )
    points = SparsePoints(
        xyz=np.concatenate(xyz),
        rgb=np.zeros((60, 3), np.uint8),
        error_px=np.full(60, 0.5),
        track_length=np.full(60, 3),
    )
    return Scene(views, points)


@pytest.fixture
def truth(tmp_path, scene):
    """The same in metres, in a world of its own."""
    folder = tmp_path / "gt"
    folder.mkdir()
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    for index, view in enumerate(scene.views):
        center = UNIT_M * turn @ view.center + [5, 5, 5]
        np.savez(
            folder / f"{index}.npz",
            depth=depth_of(index) * UNIT_M,
            K=K,
            cam_from_world=pose_matrix(turn.T, -turn.T @ center),
        )
    return folder


def exact(name: str) -> np.ndarray:
    return depth_of(NAMES.index(name))


def test_scale_is_found_and_exact_depth_has_no_error(scene, truth):
    result = evaluate_depth(scene, {"exact": exact}, open_ground_truth(truth))
    assert result["scale"]["value"] == pytest.approx(UNIT_M)
    mean = result["stages"]["exact"]["mean"]["all"]
    assert mean["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert mean["coverage"] == mean["inlier_1.03"] == mean["within_1cm"] == 1.0
    assert mean["pixels"] == 3 * WIDTH * HEIGHT


def test_errors_put_in_come_out(scene, truth):
    def off(name):
        depth = exact(name) * np.float32(1.02)
        depth[:, : WIDTH // 2] = 0
        return depth

    mean = evaluate_depth(scene, {"off": off}, open_ground_truth(truth))["stages"]["off"]["mean"]
    assert mean["all"]["abs_rel"] == pytest.approx(0.02, rel=1e-3)
    assert mean["all"]["coverage"] == mean["all"]["inlier_1.03"] == 0.5
    # 2 % of 3 to 4.3 m is 6 to 9 cm
    assert (mean["all"]["within_5cm"], mean["all"]["within_10cm"]) == (0, 0.5)
    assert mean["cap_4m"]["pixels"] < mean["all"]["pixels"] == mean["cap_15m"]["pixels"]


def test_stages_are_compared_pixel_by_pixel_and_on_common_pixels(scene, truth):
    def worse(name):
        depth = exact(name) * np.float32(1.1)
        depth[:10] = 0
        return depth

    result = evaluate_depth(scene, {"scaled": worse, "refined": exact}, open_ground_truth(truth))
    change = result["changes"]["scaled -> refined"]["mean"]
    assert change["better"] == pytest.approx(0.75)
    assert change["gained"] == pytest.approx(0.25)
    assert change["worse"] == change["lost"] == 0
    assert change["view_improved"] == 1
    common = result["stages"]["refined"]["mean"]["common"]
    assert common["pixels"] == 0.75 * 3 * WIDTH * HEIGHT
    assert common["coverage"] == 1


def test_truth_of_another_camera_is_carried_along_its_rays(scene, tmp_path):
    """A sensor with half the resolution and another principal point."""
    sensor = PinholeCamera(
        K=np.array([[25.0, 0, 10], [0, 25.0, 12], [0, 0, 1]]), width=30, height=20
    )
    folder = tmp_path / "sensor"
    folder.mkdir()
    for index in range(3):
        xy, _ = scene.views[0].camera.project(sensor.rays())
        inside = scene.views[0].camera.contains(xy)
        column, row = (
            np.clip(np.floor(xy[..., i]).astype(int), 0, n - 1)
            for i, n in ((0, WIDTH), (1, HEIGHT))
        )
        depth = np.where(inside, depth_of(index)[row, column], 50) * UNIT_M
        np.savez(folder / f"{index}.npz", depth=depth, K=sensor.K)
    result = evaluate_depth(
        scene,
        {"exact": exact},
        open_ground_truth(folder),
        scale=Scale(method="given", value=UNIT_M),
    )
    assert result["stages"]["exact"]["mean"]["all"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert "as given" in result["scale"]["description"]


def test_truth_without_camera_is_in_the_photos_grid_through_its_lens(scene, tmp_path):
    from refdepth.geometry.lens import input_pixels, sample_map

    folder = tmp_path / "plain"
    folder.mkdir()
    lens = {
        name: InputPhoto(
            name=name,
            camera_model="SIMPLE_RADIAL",
            width=WIDTH,
            height=HEIGHT,
            camera_params=(50.0, 30.0, 20.0, -0.15),
        )
        for name in NAMES
    }
    from refdepth._pycolmap import pycolmap

    camera = pycolmap.Camera(
        model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=[50.0, 30.0, 20.0, -0.15]
    )
    grid = scene.views[0].camera.pixel_grid().reshape(-1, 2)
    rays = np.asarray(camera.cam_from_img(grid))
    for index in range(3):
        x = rays[:, 0] * 50 + 30 - 0.5  # column of the undistorted picture that is seen there
        depth = (6 + index + 0.01 * x).reshape(HEIGHT, WIDTH) * UNIT_M
        np.save(folder / f"{index}.npy", depth.astype(np.float32))
    given = Scale(method="given", value=UNIT_M)
    truth = open_ground_truth(folder)
    through = evaluate_depth(scene, {"exact": exact}, truth, scale=given, photos=lens)
    beside = evaluate_depth(scene, {"exact": exact}, truth, scale=given)
    error = [r["stages"]["exact"]["mean"]["all"]["abs_rel"] for r in (through, beside)]
    assert error[0] < 0.0006  # half a pixel of the slope
    assert error[1] > 2 * error[0]
    assert sample_map(depth, input_pixels(scene.views[0].camera, lens["0.jpg"])) is not None
    assert scale_from_points(scene, truth, lens).value == pytest.approx(UNIT_M, rel=1e-3)


def test_confidence_is_judged(scene, truth):
    rng = np.random.default_rng(0)
    error = rng.uniform(0, 0.1, (HEIGHT, WIDTH)).astype(np.float32)

    def sure(name):
        return DepthMap(depth=exact(name) * (1 + error), confidence=1 - 5 * error)

    def unsure(name):
        return DepthMap(depth=exact(name) * (1 + error), confidence=np.full_like(error, 0.5))

    found = evaluate_depth(scene, {"sure": sure, "unsure": unsure}, open_ground_truth(truth))
    worth = found["confidence"]
    assert worth["sure"]["ause_abs_rel"] == pytest.approx(0, abs=1e-4)
    assert worth["sure"]["gain_of_dropping_20_percent"] == pytest.approx(0.2, abs=0.01)
    assert worth["unsure"]["ause_abs_rel"] == pytest.approx(worth["unsure"]["ause_random"])


def test_missing_views_are_counted_and_named(scene, truth):
    (truth / "2.npz").unlink()
    result = evaluate_depth(
        scene,
        {"some": lambda name: None if name == "1.jpg" else exact(name)},
        open_ground_truth(truth),
    )
    mean = result["stages"]["some"]["mean"]["all"]
    assert mean["coverage"] == mean["inlier_1.03"] == 0.5
    assert mean["abs_rel"] == pytest.approx(0, abs=1e-6)
    notes = " ".join(result["notes"])
    assert "no some depth, counted as missing: 1.jpg" in notes
    assert "no true depth, left out: 2.jpg" in notes


def test_nan_and_zero_depth_count_as_missing(scene, truth):
    def holes(name):
        depth = exact(name).copy()
        depth[0], depth[1], depth[2] = np.nan, 0, np.inf
        return depth

    mean = evaluate_depth(scene, {"holes": holes}, open_ground_truth(truth))["stages"]["holes"]
    assert mean["mean"]["all"]["coverage"] == pytest.approx(1 - 3 / HEIGHT)


def test_depth_of_another_size_is_refused(scene, truth):
    with pytest.raises(InputError, match="5x4"):
        evaluate_depth(scene, {"small": lambda _: np.ones((4, 5))}, open_ground_truth(truth))


def test_truth_of_another_shape_is_refused(scene, tmp_path):
    np.save(tmp_path / "0.npy", np.ones((40, 40), np.float32))
    with pytest.raises(InputError, match="40x40"):
        evaluate_depth(scene, {"exact": exact}, open_ground_truth(tmp_path))


def test_empty_truth_is_refused(scene, tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((HEIGHT, WIDTH), np.float32))
    with pytest.raises(InputError, match="scale"):
        evaluate_depth(scene, {"exact": exact}, open_ground_truth(tmp_path))
    with pytest.raises(InputError, match="no known depth"):
        evaluate_depth(
            scene,
            {"exact": exact},
            open_ground_truth(tmp_path),
            scale=Scale(method="given", value=1.0),
        )


def test_truth_of_other_photos_is_refused(scene, tmp_path):
    np.save(tmp_path / "other.npy", np.ones((HEIGHT, WIDTH), np.float32))
    with pytest.raises(InputError, match=r"0\.jpg"):
        evaluate_depth(scene, {"exact": exact}, open_ground_truth(tmp_path))


def test_doubtful_units_are_said(scene, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(3):  # millimetres taken as metres, of something else altogether
        np.save(tmp_path / f"{index}.npy", 4000 * rng.uniform(0.5, 2, (HEIGHT, WIDTH)))
    notes = " ".join(evaluate_depth(scene, {"exact": exact}, open_ground_truth(tmp_path))["notes"])
    assert "unlikely depth" in notes
    assert "deviate from the truth" in notes


def test_unknown_units_give_no_centimetres(scene, truth):
    source = open_ground_truth(truth)
    source.metres_per_unit = None
    result = evaluate_depth(scene, {"exact": exact}, source)
    assert "within_1cm" not in result["stages"]["exact"]["mean"]["all"]
    assert not any(part.startswith("cap") for part in result["stages"]["exact"]["mean"])


@pytest.mark.parametrize("align", [align_by_points, align_by_poses])
def test_cloud_is_aligned_and_judged(scene, truth, align):
    source = open_ground_truth(truth)
    alignment = align(scene, source)
    assert alignment.scale == pytest.approx(UNIT_M, rel=1e-4)
    cloud = np.concatenate(
        [v.camera.unproject(exact(v.name)).reshape(-1, 3) + v.center for v in scene.views]
    )
    result = evaluate_cloud(
        cloud,
        true_cloud(scene, source, 0.01),
        alignment=alignment,
        distances=(0.05, 0.1),
        use_icp=False,
    )
    assert result["scores"]["f_0.05"] == 1.0
    assert result["alignment"]["method"] in ("points", "poses")
    assert "F" in cloud_table(result).columns


def test_clouds_that_cannot_be_judged_are_refused():
    good, bad = np.zeros((3, 3)), np.full((3, 3), np.nan)
    for cloud, reference in ((good[:0], good), (bad, good), (good, bad)):
        with pytest.raises(InputError):
            evaluate_cloud(cloud, reference)
    with pytest.raises(InputError, match="distances"):
        evaluate_cloud(good, good, distances=(0.0,))


def test_results_are_json_and_tables_are_readable(scene, truth):
    def near(name):
        return DepthMap(
            depth=exact(name) * np.float32(1.01),
            confidence=np.full((HEIGHT, WIDTH), 0.5, np.float32),
        )

    result = evaluate_depth(scene, {"a": near, "b": exact, "c": near}, open_ground_truth(truth))
    assert json.loads(json.dumps(result))["scale"]["method"] == "points"
    tables = depth_tables(result)
    assert tables[0].rows[0][:2] == ("a", "0.0100")
    assert any("SfM points" in note for note in tables[0].notes)
    assert {row[0] for table in tables for row in table.rows} >= {"a -> b", "b -> c", "a -> c"}
    text = view_table(result).to_text().splitlines()
    assert text[2].startswith("0.jpg")


def test_true_pixels_that_no_ray_reaches_are_left_out(scene):
    """The outer ones of a fisheye's picture: pycolmap has rays of other pixels for them."""
    from refdepth._pycolmap import pycolmap

    params = (16.0, 16.0, 30.0, 20.0, -0.05, 0.01, 0.0, 0.0)
    photo = InputPhoto(
        name="0.jpg",
        camera_model="OPENCV_FISHEYE",
        width=WIDTH,
        height=HEIGHT,
        camera_params=params,
    )
    wide = PinholeCamera(K=np.array([[20.0, 0, 30], [0, 20.0, 20], [0, 0, 1]]), width=60, height=40)
    view = replace(scene.views[0], camera=wide)
    seen = true_pixels(view, TrueDepth(depth=np.ones((HEIGHT, WIDTH), np.float32)), photo)
    lens = pycolmap.Camera(model=photo.camera_model, width=WIDTH, height=HEIGHT, params=params)
    rays = wide.rays(np.stack([seen.column, seen.row], axis=1) + 0.5)
    again = np.asarray(lens.img_from_cam(rays)) - 0.5
    assert len(again) > 500
    assert np.abs(again - np.stack(seen.at[::-1], axis=1)).max() < 1
