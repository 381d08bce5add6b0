"""The principal point: found where the photos tell it, left alone where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth._pycolmap import pycolmap
from refdepth.sfm.principal_point import LEAST_PHOTOS, refine_principal_points
from tests.support.lens_model import lens_model


def mapped_with_centred_lens(
    folder: Path, *shifts_px: tuple[float, float], photos: int, second_sees_one_in: int = 1
) -> Path:
    """A model of lenses off their centre, as a mapper leaves it that believes in the centre: one
    camera of `photos` photos for each shift, numbered from 1."""
    model = lens_model(len(shifts_px), photos)
    rng = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + shifts_px[image.camera_id - 1] + rng.normal(0, 0.4, 2)
    for image in (image for image in model.images.values() if image.camera_id == 2):
        seen = [index for index, point in enumerate(image.points2D) if point.has_point3D()]
        for index in set(seen) - set(seen[::second_sees_one_in]):
            model.delete_observation(image.image_id, index)
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.print_summary = False
    pycolmap.bundle_adjustment(model, adjustment)
    folder.mkdir()
    model.write(folder)
    return folder


def principal_point(model: pycolmap.Reconstruction, camera_id: int = 1) -> np.ndarray:
    camera = model.cameras[camera_id]
    return np.array([camera.principal_point_x, camera.principal_point_y])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_lens_off_the_centre_is_found_and_written(tmp_path: Path) -> None:
    folder = mapped_with_centred_lens(tmp_path / "model", (9.0, -14.0), photos=14)
    found = refine_principal_points(folder, threads=1)
    np.testing.assert_allclose(principal_point(found), [329, 226], atol=1.5)
    again = pycolmap.Reconstruction(folder)
    np.testing.assert_array_equal(principal_point(again), principal_point(found))


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        folder = mapped_with_centred_lens(tmp_path / name, (9.0, -14.0), photos=12)
        refine_principal_points(folder, threads=1)
        results.append(files(folder)["cameras.bin"])
    assert results[0] == results[1]


@pytest.mark.parametrize(("shift", "photos"), [((0.0, 0.0), 14), ((9.0, -14.0), LEAST_PHOTOS - 1)])
def test_a_centred_lens_and_too_few_photos_leave_the_model_alone(
    tmp_path: Path, shift: tuple[float, float], photos: int
) -> None:
    folder = mapped_with_centred_lens(tmp_path / "model", shift, photos=photos)
    before = files(folder)
    found = refine_principal_points(folder, threads=1)
    assert files(folder) == before
    np.testing.assert_array_equal(principal_point(found), [320, 240])


@pytest.mark.parametrize("beyond", [(96.0, 0.0), (0.0, -72.0)])
def test_a_camera_that_cannot_be_believed_costs_the_others_nothing(
    tmp_path: Path, beyond: tuple[float, float]
) -> None:
    """15 percent of the picture's side is no lens; its few points say little about the other."""
    shifts = ((9.0, -14.0), beyond)
    folder = mapped_with_centred_lens(tmp_path / "model", *shifts, photos=12, second_sees_one_in=8)
    refine_principal_points(folder, threads=1)
    written = pycolmap.Reconstruction(folder)
    np.testing.assert_allclose(principal_point(written, 1), [329, 226], atol=1.5)
    np.testing.assert_array_equal(principal_point(written, 2), [320, 240])


def test_a_model_whose_every_camera_cannot_be_believed_is_left_alone(tmp_path: Path) -> None:
    folder = mapped_with_centred_lens(tmp_path / "model", (96.0, 0.0), (0.0, -72.0), photos=10)
    before = files(folder)
    refine_principal_points(folder, threads=1)
    assert files(folder) == before
