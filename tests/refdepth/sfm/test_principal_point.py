"""The principal point: found where the photos tell it, left alone where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth._pycolmap import pycolmap
from refdepth.sfm.principal_point import LEAST_PHOTOS, refine_principal_points


def mapped_with_centred_lens(folder: Path, shift_px: tuple[float, float], photos: int) -> Path:
    """A model of a lens off its centre, as a mapper leaves it that believes in the centre."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 1
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = photos
    options.num_points3D = 250
    options.camera_model_id = pycolmap.CameraModelId.SIMPLE_RADIAL
    options.camera_width, options.camera_height = 640, 480
    options.camera_params = [600.0, 320 + shift_px[0], 240 + shift_px[1], 0.01]
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, 0.4, 2)
    for camera in model.cameras.values():
        camera.principal_point_x, camera.principal_point_y = 320, 240
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.print_summary = False
    pycolmap.bundle_adjustment(model, adjustment)
    folder.mkdir()
    model.write(folder)
    return folder


def principal_point(model: pycolmap.Reconstruction) -> np.ndarray:
    (camera,) = model.cameras.values()
    return np.array([camera.principal_point_x, camera.principal_point_y])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_lens_off_the_centre_is_found_and_written(tmp_path: Path) -> None:
    folder = mapped_with_centred_lens(tmp_path / "model", (9.0, -14.0), 14)
    found = refine_principal_points(folder, threads=1)
    np.testing.assert_allclose(principal_point(found), [329, 226], atol=1.5)
    again = pycolmap.Reconstruction(folder)
    np.testing.assert_array_equal(principal_point(again), principal_point(found))


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        folder = mapped_with_centred_lens(tmp_path / name, (9.0, -14.0), 12)
        refine_principal_points(folder, threads=1)
        results.append(files(folder)["cameras.bin"])
    assert results[0] == results[1]


@pytest.mark.parametrize(("shift", "photos"), [((0.0, 0.0), 14), ((9.0, -14.0), LEAST_PHOTOS - 1)])
def test_a_centred_lens_and_too_few_photos_leave_the_model_alone(
    tmp_path: Path, shift: tuple[float, float], photos: int
) -> None:
    folder = mapped_with_centred_lens(tmp_path / "model", shift, photos)
    before = files(folder)
    found = refine_principal_points(folder, threads=1)
    assert files(folder) == before
    np.testing.assert_array_equal(principal_point(found), [320, 240])
