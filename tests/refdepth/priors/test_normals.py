"""Normal maps as they are given: formats, axes, lens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.geometry.lens import InputPhoto, input_pixels
from refdepth.ingest import NameTable
from refdepth.io.normal_files import read_normal_file
from refdepth.priors.normals import GivenNormals, on_grid
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import View

HEIGHT, WIDTH = 60, 80
FOCAL = 70.0


def turning(height: int, width: int) -> NDArray[np.float32]:
    """Normals that say where in the picture they are, all towards the camera."""
    y, x = (np.indices((height, width)) + 0.5) / np.array([height, width]).reshape(2, 1, 1)
    vectors = np.stack([0.3 * (x - 0.5), 0.3 * (y - 0.5), -np.ones_like(x)], axis=2)
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def view() -> View:
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return View(
        name="a.jpg",
        camera=PinholeCamera(K=K, width=WIDTH, height=HEIGHT),
        cam_from_world=np.eye(4),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=Path("a.jpg"),
    )


def photo(_: View, bend: float = 0.1) -> InputPhoto:
    return InputPhoto(
        name="a.jpg",
        camera_model="SIMPLE_RADIAL",
        width=WIDTH,
        height=HEIGHT,
        camera_params=(FOCAL, WIDTH / 2, HEIGHT / 2, bend),
    )


def save(folder: Path, suffix: str, normals: NDArray[np.float32]) -> Path:
    path = folder / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, normals)
    elif suffix == ".npz":
        np.savez(path, normals=normals, other=np.zeros(3))
    else:
        known = (normals != 0).any(axis=2, keepdims=True)
        levels = np.where(known, np.rint((normals + 1) * 127.5), 0).astype(np.uint8)
        Image.fromarray(levels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png"])
def test_every_format_gives_unit_normals_and_what_is_not_known(tmp_path: Path, suffix: str) -> None:
    normals = turning(12, 16)
    normals[3:5, 2:9] = 0
    found = read_normal_file(save(tmp_path, suffix, normals * np.float32(1)))
    np.testing.assert_array_equal((found == 0).all(axis=2), (normals == 0).all(axis=2))
    cosine = (found * normals).sum(axis=2)[(normals != 0).any(axis=2)]
    assert np.degrees(np.arccos(np.clip(cosine.min(), -1, 1))) < (0.6 if suffix == ".png" else 0.1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (turning(12, 16) * np.float32([1, 1, -1]), "point away from the camera"),
        (np.zeros((12, 16), np.float32), "not three floating-point numbers"),
        (np.zeros((12, 16, 3), np.uint8), "not three floating-point numbers"),
    ],
)
def test_what_is_no_normal_map_is_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=says):
        read_normal_file(tmp_path / "a.npy")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz", ".png"):
        (tmp_path / f"a{suffix}").write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match="cannot be read as a normal map"):
            read_normal_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("scale", [1, 2])
def test_they_are_taken_through_the_lens_at_any_resolution(tmp_path: Path, scale: int) -> None:
    save(tmp_path, ".npy", turning(HEIGHT * scale, WIDTH * scale))
    given = GivenNormals(tmp_path, NameTable({"a.jpg": "a.jpg"}), photo)
    found = given.of(view())
    assert found is not None
    normals, step = found
    assert normals.shape == (HEIGHT // step, WIDTH // step, 3)
    rows, columns = (np.indices(normals.shape[:2]) + 0.5) * step
    # The photo's own pixel that each block's centre shows, from the lens model alone.
    x, y = (columns - WIDTH / 2) / FOCAL, (rows - HEIGHT / 2) / FOCAL
    bent = 1 + 0.1 * (x**2 + y**2)
    place = np.stack([x * bent * FOCAL / WIDTH, y * bent * FOCAL / HEIGHT], axis=2)
    inside = (np.abs(place) < 0.48).all(axis=2)
    slopes = -normals[inside][:, :2] / normals[inside][:, 2:]
    np.testing.assert_allclose(slopes, 0.3 * place[inside], atol=2e-3)
    assert inside.mean() > 0.7
    assert input_pixels(view().camera, photo(view())).shape == (HEIGHT, WIDTH, 2)


def test_what_points_away_from_the_line_of_sight_is_unknown(tmp_path: Path) -> None:
    """Beside the axis a normal may have z below 0 and yet be that of a surface nobody sees."""
    sideways = np.broadcast_to(np.float32([0.95, 0, -0.3122]), (HEIGHT, WIDTH, 3))
    np.save(tmp_path / "a.npy", sideways)
    given = GivenNormals(tmp_path, NameTable({"a.jpg": "a.jpg"}), lambda v: photo(v, 0.0))
    found = given.of(view())
    assert found is not None
    unknown = (found[0] == 0).all(axis=2)
    assert not unknown[:, :20].any()
    assert unknown[:, -5:].all()


def test_views_without_a_map_have_none_and_another_shape_is_refused(tmp_path: Path) -> None:
    names = NameTable({"a.jpg": "a.jpg"})
    assert GivenNormals(tmp_path, names, photo).of(view()) is None
    save(tmp_path, ".npy", turning(HEIGHT, HEIGHT))
    with pytest.raises(InputError, match=r"60x60, its photo 80x60"):
        GivenNormals(tmp_path, names, photo).of(view())


def test_a_coarser_grid_takes_what_lies_at_its_centres() -> None:
    normals = turning(30, 40)  # blocks of 2 of a photo of 80 x 60
    found = on_grid(normals, 2, (15, 20), 4)
    expected = turning(15, 20)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    np.testing.assert_array_equal(on_grid(normals, 2, (30, 40), 2), normals)
