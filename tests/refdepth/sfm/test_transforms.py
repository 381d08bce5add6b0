"""Reading transforms.json: conventions, and everything that can be wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdepth.errors import InputError
from refdepth.sfm.transforms import read_transforms
from refdepth.types.camera import camera_center

IDENTITY = np.eye(4).tolist()


def write(folder: Path, content: Any) -> Path:
    path = folder / "transforms.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def frame(matrix: Any = IDENTITY, name: str = "images/a.jpg", **fields: Any) -> dict[str, Any]:
    return {"file_path": name, "transform_matrix": matrix, **fields}


def test_an_opengl_camera_at_rest_looks_along_minus_z_with_y_up(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = [1, 2, 3]
    (read,) = read_transforms(write(tmp_path, {"fl_x": 100, "frames": [frame(matrix.tolist())]}))
    np.testing.assert_allclose(camera_center(read.cam_from_world), [1, 2, 3])
    ahead = read.cam_from_world @ [1, 2, 3 - 5, 1]
    above = read.cam_from_world @ [1, 2 + 1, 3 - 5, 1]
    np.testing.assert_allclose(ahead[:3], [0, 0, 5])
    np.testing.assert_allclose(above[:3], [0, -1, 5])


def test_intrinsics_may_be_shared_or_per_frame_and_scale_with_the_picture(tmp_path: Path) -> None:
    content = {
        "w": 200,
        "h": 100,
        "fl_x": 150,
        "fl_y": 160,
        "cx": 99,
        "cy": 51,
        "frames": [frame(), frame(name="b.jpg", fl_x=300, k1=0.1, p2=0.01)],
    }
    shared, own = read_transforms(write(tmp_path, content))
    assert shared.intrinsics.colmap(200, 100) == ("PINHOLE", [150, 160, 99, 51])
    assert shared.intrinsics.colmap(100, 50) == ("PINHOLE", [75, 80, 49.5, 25.5])
    assert own.intrinsics.colmap(200, 100) == ("OPENCV", [300, 160, 99, 51, 0.1, 0, 0, 0.01])


def test_a_file_without_a_size_speaks_of_the_photo_that_was_given(tmp_path: Path) -> None:
    lengths = {"fl_x": 150, "fl_y": 160, "cx": 99, "cy": 51}
    (plain,) = read_transforms(write(tmp_path, {**lengths, "frames": [frame()]}))
    sized = plain.intrinsics.sized(200, 100)
    assert sized.colmap(100, 50) == ("PINHOLE", [75, 80, 49.5, 25.5])
    (wide,) = read_transforms(write(tmp_path, {**lengths, "w": 400, "frames": [frame()]}))
    assert wide.intrinsics.sized(200, 100).colmap(100, 50)[1] == [37.5, 40, 24.75, 12.75]
    (high,) = read_transforms(write(tmp_path, {**lengths, "h": 200, "frames": [frame()]}))
    assert high.intrinsics.sized(200, 100).colmap(100, 50)[1] == [37.5, 40, 24.75, 12.75]


def test_a_field_of_view_gives_the_focal_length(tmp_path: Path) -> None:
    content = {"camera_angle_x": math.radians(90), "frames": [frame()]}
    (read,) = read_transforms(write(tmp_path, content))
    kind, params = read.intrinsics.colmap(800, 600)
    assert (kind, params) == ("PINHOLE", pytest.approx([400, 400, 400, 300]))


def test_lenses_get_their_colmap_model(tmp_path: Path) -> None:
    def model(**fields: Any) -> str:
        (read,) = read_transforms(write(tmp_path, {"fl_x": 1, **fields, "frames": [frame()]}))
        return read.intrinsics.colmap(10, 10)[0]

    assert model(k1=0.1) == "OPENCV"
    assert model(k3=0.1) == "FULL_OPENCV"
    assert model(k1=0.1, camera_model="OPENCV_FISHEYE") == "OPENCV_FISHEYE"
    with pytest.raises(InputError, match="k4"):
        model(k4=0.1)
    with pytest.raises(InputError, match="EQUIRECTANGULAR"):
        model(camera_model="EQUIRECTANGULAR")


def test_no_focal_length_is_said(tmp_path: Path) -> None:
    (read,) = read_transforms(write(tmp_path, {"frames": [frame()]}))
    with pytest.raises(InputError, match="focal"):
        read.intrinsics.colmap(10, 10)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.diag([1, 1, 0, 1]).tolist(), "singular"),
        (np.diag([1, 1, -1, 1]).tolist(), "left-handed"),
        (np.diag([2, 2, 2, 1]).tolist(), "no rotation"),
        ([[1, 0], [0, 1]], "4x4"),
        ([[1, 0, 0, float("nan")], *IDENTITY[1:]], "4x4"),
        ([*IDENTITY[:3], [0, 0, 1, 1]], "last row"),
        ("identity", "4x4"),
        (None, "4x4"),
        ([[1, 2], [3]], "4x4"),
    ],
)
def test_wrong_poses_are_refused_by_frame(tmp_path: Path, matrix: Any, reason: str) -> None:
    path = write(tmp_path, {"fl_x": 1, "frames": [frame(), frame(matrix, "b.jpg")]})
    with pytest.raises(InputError, match=reason) as caught:
        read_transforms(path)
    assert "frames[1]" in str(caught.value.subject)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        "[]",
        "{}",
        {"frames": []},
        {"frames": {}},
        {"frames": [1]},
        {"frames": [{"transform_matrix": IDENTITY}]},
        {"frames": [frame(name="../../etc/passwd")]},
        {"frames": [frame(name="/etc/passwd")]},
        {"frames": [frame()], "fl_x": "long"},
        {"frames": [frame()], "fl_x": -1},
        {"frames": [frame()], "fl_x": float("inf")},
        {"frames": [frame()], "camera_angle_x": 4},
        {"frames": [frame()], "w": True},
        {"frames": [frame()], "camera_model": ["OPENCV"]},
        "[" * 100_000,
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError):
        read_transforms(write(tmp_path, content))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_transforms(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not JSON"):
        read_transforms(tmp_path / "binary.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    field=st.sampled_from(
        ["w", "h", "fl_x", "cx", "k1", "camera_angle_x", "camera_model", "frames", "is_fisheye"]
    ),
    value=json_values,
    inside=st.booleans(),
)
def test_any_value_anywhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, inside: bool
) -> None:
    content: dict[str, Any] = {"fl_x": 100, "frames": [frame()]}
    (content["frames"][0] if inside else content)[field] = value
    try:
        for read in read_transforms(write(tmp_path_factory.mktemp("fuzz"), content)):
            read.intrinsics.colmap(64, 48)
    except InputError:
        pass
