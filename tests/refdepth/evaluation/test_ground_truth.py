"""True depth from every kind of file."""

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import InputError
from refdepth.evaluation.ground_truth import open_ground_truth
from refdepth.ingest import NameTable
from refdepth.io.colmap import read_array
from refdepth.types.camera import pose_matrix

DEPTH = np.array([[1.0, 2.0, 0.0], [4.0, 5.5, 6.0]], np.float32)
K = np.array([[2.0, 0, 1.5], [0, 2.0, 1.0], [0, 0, 1]])


def write_colmap(path, depth):
    height, width = depth.shape
    path.write_bytes(f"{width}&{height}&1&".encode() + depth.astype("<f4").tobytes())


def test_npz_gives_depth_camera_and_points(tmp_path):
    pose = pose_matrix(np.eye(3), [0, 0, 1.0])
    np.savez(tmp_path / "a.npz", depth=DEPTH, K=K, cam_from_world=pose)
    truth = open_ground_truth(tmp_path)
    found = truth.load("a.jpg")
    np.testing.assert_array_equal(found.depth, DEPTH)
    np.testing.assert_array_equal(found.K, K)
    # pixel (1, 1): centre (1.5, 1.5), ray (0, 0.25, 1), depth 5.5, camera at z = -1
    np.testing.assert_allclose(found.points()[3], [0, 0.25 * 5.5, 5.5 - 1])
    assert truth.metres_per_unit == 1.0


def test_unusable_values_are_unknown(tmp_path):
    bad = DEPTH.copy()
    bad[0] = [np.nan, np.inf, -1]
    np.savez(tmp_path / "a.npz", depth=bad)
    assert open_ground_truth(tmp_path).load("a.jpg").depth[0].tolist() == [0, 0, 0]


def test_16_bit_png_is_scaled(tmp_path):
    Image.fromarray((DEPTH * 5000).astype(np.uint16)).save(tmp_path / "a.png")
    truth = open_ground_truth(tmp_path, png_scale=1 / 5000)
    np.testing.assert_allclose(truth.load("a.jpg").depth, DEPTH, rtol=1e-6)
    assert "0.0002 m a level" in truth.kind


def test_colmap_depth_is_read_geometric_first_and_has_no_metres(tmp_path):
    folder = tmp_path / "stereo" / "depth_maps"
    folder.mkdir(parents=True)
    write_colmap(folder / "a.jpg.photometric.bin", DEPTH * 2)
    write_colmap(folder / "a.jpg.geometric.bin", DEPTH)
    write_colmap(folder / "b.jpg.photometric.bin", DEPTH * 3)
    truth = open_ground_truth(tmp_path)
    np.testing.assert_array_equal(truth.load("a.jpg").depth, DEPTH)
    np.testing.assert_array_equal(truth.load("b.jpg").depth, DEPTH * 3)
    assert truth.metres_per_unit is None
    assert truth.load("a.jpg").undistorted


def test_colmap_depth_equals_what_pycolmap_writes(tmp_path):
    from refdepth._pycolmap import pycolmap

    path = tmp_path / "a.geometric.bin"
    pycolmap.DepthMap.from_array(DEPTH, 0.1, 10.0).write(path)
    np.testing.assert_array_equal(read_array(path), DEPTH)


@pytest.mark.parametrize("content", [b"", b"3&2&1&abcd", b"x&y&z&", b"3&2&2&" + b"0" * 48])
def test_damaged_colmap_depth_is_refused(tmp_path, content):
    (tmp_path / "a.geometric.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.geometric\.bin"):
        open_ground_truth(tmp_path).load("a")


def test_views_are_found_with_and_without_folder_and_ending(tmp_path):
    for name in ("left/0.npz", "right/0.npz", "left/1.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / name, depth=DEPTH)
    truth = open_ground_truth(tmp_path)
    assert truth.find("left/0.jpg") == tmp_path / "left" / "0.npz"
    assert truth.find("right/0.jpg") == tmp_path / "right" / "0.npz"
    assert truth.find("1.png") == tmp_path / "left" / "1.npz"
    with pytest.raises(InputError, match=r"left/0\.npz.*right/0\.npz"):  # two folders have one
        truth.find("0.jpg")
    assert truth.load("nowhere.jpg") is None


def test_truth_goes_by_the_photos_own_names(tmp_path):
    """As a run has them: views are flat, a turned JPEG became a PNG."""
    names = NameTable({"a_x.png": "a/x.jpg", "b_x.jpg": "b/x.jpg", "x.png": "x.jpg"})
    for factor, name in enumerate(("x.jpg.npz", "a/x.npz", "b/x.jpg.npz"), start=1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / name, depth=DEPTH * factor)
    truth = open_ground_truth(tmp_path, names)
    for factor, view in enumerate(("x.png", "a_x.png", "b_x.jpg"), start=1):
        np.testing.assert_array_equal(truth.load(view).depth, DEPTH * factor)


def test_colmap_depth_of_a_turned_photo_is_found_by_the_photos_name(tmp_path):
    write_colmap(tmp_path / "IMG_1.JPG.geometric.bin", DEPTH)
    truth = open_ground_truth(tmp_path, NameTable({"IMG_1.png": "IMG_1.JPG"}))
    np.testing.assert_array_equal(truth.load("IMG_1.png").depth, DEPTH)


def test_truth_that_may_be_of_two_photos_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", depth=DEPTH)
    truth = open_ground_truth(tmp_path, NameTable.plain(["a/x.jpg", "b/x.jpg"]))
    with pytest.raises(InputError, match=r"any of the photos a/x\.jpg, b/x\.jpg"):
        truth.load("a/x.jpg")


def test_folders_without_truth_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no ground truth"):
        open_ground_truth(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        open_ground_truth(tmp_path / "missing")


def test_a_bad_camera_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", depth=DEPTH, K=np.full((3, 3), np.nan))
    with pytest.raises(InputError, match="camera"):
        open_ground_truth(tmp_path).load("a")


def test_a_three_by_four_pose_is_completed(tmp_path):
    np.savez(tmp_path / "a.npz", depth=DEPTH, K=K, cam_from_world=np.eye(4)[:3])
    np.testing.assert_array_equal(open_ground_truth(tmp_path).load("a").cam_from_world, np.eye(4))
