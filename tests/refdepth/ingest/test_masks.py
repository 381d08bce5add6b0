"""The user's masks in the grid of the prepared photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest import PreparedPhoto
from refdepth.ingest.decoding import upright
from refdepth.ingest.masks import prepare_mask


def photo(original: str, **fields: int) -> PreparedPhoto:
    size = {"width": 60, "height": 40, "stored_width": 60, "stored_height": 40}
    return PreparedPhoto(name=original.replace("/", "_"), original=original, **{**size, **fields})


def half_mask() -> np.ndarray:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :20] = 255
    mask[:5] = 255
    return mask


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_mask_turns_with_its_photo(tmp_path: Path, orientation: int) -> None:
    Image.fromarray(half_mask()).save(tmp_path / "m.png")
    truth = np.asarray(upright(Image.fromarray(half_mask()), orientation))
    row = photo("a.jpg", orientation=orientation, height=truth.shape[0], width=truth.shape[1])
    found = prepare_mask(tmp_path / "m.png", row, tmp_path)
    with Image.open(tmp_path / "a.jpg.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), truth)
    assert found.used_share == pytest.approx((truth > 0).mean())


def test_a_mask_drawn_on_the_upright_photo_is_not_turned_again(tmp_path: Path) -> None:
    Image.fromarray(half_mask()).save(tmp_path / "m.png")
    row = photo("a.jpg", orientation=6, stored_width=40, stored_height=60)
    prepare_mask(tmp_path / "m.png", row, tmp_path)
    with Image.open(tmp_path / "a.jpg.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), half_mask())


def test_a_mask_shrinks_with_its_photo(tmp_path: Path) -> None:
    Image.fromarray(half_mask()).save(tmp_path / "m.png")
    prepare_mask(tmp_path / "m.png", photo("a.jpg", width=30, height=20), tmp_path)
    with Image.open(tmp_path / "a.jpg.png") as mask:
        assert mask.size == (30, 20)
        assert set(np.unique(np.asarray(mask))) == {0, 255}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_any_kind_of_mask_is_read_and_labels_of_one_count(tmp_path: Path, mode: str) -> None:
    labels = (half_mask() > 0).astype(np.uint8)
    picture = Image.fromarray(labels if mode in ("L", "RGB", "RGBA") else labels * 255)
    if mode == "I;16":
        picture = Image.fromarray(labels.astype(np.uint16))
    picture.convert(mode).save(tmp_path / "m.png")
    prepare_mask(tmp_path / "m.png", photo("a.jpg"), tmp_path)
    with Image.open(tmp_path / "a.jpg.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), half_mask())


def test_a_mask_is_joined_with_the_photos_own_transparency(tmp_path: Path) -> None:
    Image.fromarray(half_mask()).save(tmp_path / "m.png")
    own = np.full((40, 60), 255, np.uint8)
    own[:, :10] = 0
    Image.fromarray(own).save(tmp_path / "a.jpg.png")
    prepare_mask(tmp_path / "m.png", photo("a.jpg"), tmp_path)
    with Image.open(tmp_path / "a.jpg.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), np.minimum(own, half_mask()))


def test_wrong_size_damage_and_emptiness_are_said(tmp_path: Path) -> None:
    row = photo("a.jpg")
    Image.new("L", (59, 40), 255).save(tmp_path / "size.png")
    with pytest.raises(InputError, match=r"59x40.*60x40"):
        prepare_mask(tmp_path / "size.png", row, tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)).save(
        tmp_path / "cut.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(InputError, match="damaged"):
        prepare_mask(tmp_path / "cut.png", row, tmp_path)
    Image.new("L", (60, 40)).save(tmp_path / "black.png")
    assert "nothing" in str(prepare_mask(tmp_path / "black.png", row, tmp_path).warning)
