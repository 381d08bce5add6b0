"""A view's photo and mask at the size that its camera has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.io.images import load_mask, load_photo, load_rgb
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import View

HEIGHT, WIDTH = 601, 43


@pytest.fixture
def view(tmp_path: Path) -> View:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.where(rng.random((HEIGHT, WIDTH)) < 0.9, 255, 0).astype(np.uint8)).save(
        tmp_path / "mask.png"
    )
    K = np.array([[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]])
    return View(
        name="a.png",
        camera=PinholeCamera(K=K, width=WIDTH, height=HEIGHT),
        cam_from_world=np.eye(4),
        point_index=np.zeros(0, np.int64),
        point_xy=np.zeros((0, 2)),
        image_path=tmp_path / "a.png",
        mask_path=tmp_path / "mask.png",
    )


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_reduced_view_has_the_means_of_its_photos_blocks(view: View, factor: int) -> None:
    grid = WorkGrid(photo=view.camera, factor=factor)
    small = replace(view, camera=grid.camera, reduction=factor)
    photo = load_photo(small)
    whole = load_photo(view)
    expected = np.rint(grid.shrink(whole.image.astype(np.float32)))
    np.testing.assert_array_equal(photo.image, expected)
    np.testing.assert_array_equal(load_mask(small), grid.shrink_mask(whole.mask))


def test_pictures_of_another_size_are_refused(view: View) -> None:
    other = replace(view, camera=replace(view.camera, width=WIDTH - 1))
    with pytest.raises(InputError, match="photo is 43x601, its camera 42x601"):
        load_rgb(other)
    with pytest.raises(InputError, match="mask is 43x601, its photo 42x601"):
        load_mask(other)
