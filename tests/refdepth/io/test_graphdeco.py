"""Inverse depth as graphdeco's trainer reads it; its formula is written out here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.io.graphdeco import (
    check_stems,
    inverse_scale,
    largest_inverse,
    write_depth_params,
    write_inverse_depth,
)
from refdepth.types.depth_map import DepthMap


def read_as_the_trainer(folder: Path, name: str) -> NDArray[np.float32]:
    """`cv2.imread(path, -1).astype(np.float32) / float(2**16)`, then times scale plus offset."""
    params = json.loads((folder / "sparse/0/depth_params.json").read_text())
    key = name[: -len(name.split(".")[-1]) - 1]
    with Image.open(folder / "depths" / f"{key}.png") as picture:
        assert picture.mode == "I;16"
        levels = np.asarray(picture)
    inverse = levels.astype(np.float32) / float(2**16)
    if params[key]["scale"] > 0:
        inverse = inverse * params[key]["scale"] + params[key]["offset"]
    return inverse


def depth_map(low: float, high: float, seed: int = 0) -> DepthMap:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(low, high, (30, 40)).astype(np.float32)
    depth[:5] = 0
    return DepthMap(depth=depth, confidence=(depth > 0).astype(np.float32))


def written(folder: Path, maps: dict[str, DepthMap]) -> dict[str, float]:
    (folder / "sparse" / "0").mkdir(parents=True)
    top = max(map(largest_inverse, maps.values()))
    scales = {name: inverse_scale(largest_inverse(found), top) for name, found in maps.items()}
    shares = {n: write_inverse_depth(folder, n, maps[n], scales[n]) for n in maps}
    write_depth_params(folder, {name: (scales[name], shares[name]) for name in maps})
    return scales


def test_every_pixel_comes_out_within_half_a_step(tmp_path: Path) -> None:
    maps = {"a/one.jpg": depth_map(0.7, 9), "two.JPG": depth_map(2, 300, 1)}
    scales = written(tmp_path, maps)
    for name, found in maps.items():
        inverse, known = read_as_the_trainer(tmp_path, name), found.valid
        step = scales[name] / 65536
        assert_allclose(inverse[known], 1 / found.depth[known], rtol=1e-6, atol=0.5 * step)
        assert (inverse[~known] == 0).all()
        assert (inverse[known] > 0).all()


def test_the_nearest_pixel_has_the_highest_level(tmp_path: Path) -> None:
    found = depth_map(1, 2)
    written(tmp_path, {"one.png": found})
    levels = np.asarray(Image.open(tmp_path / "depths" / "one.png"))
    assert levels.max() == 65535
    assert levels.argmax() == np.where(found.valid, found.depth, np.inf).argmin()


def test_no_scale_is_turned_down_however_the_distances_differ() -> None:
    """The trainer drops what is below a fifth or above five times the median."""
    own = [1 / depth for depth in (0.01, 0.5, 1, 30, 1000, 1000, 1000)]
    scales = [inverse_scale(one, max(own)) for one in own]
    median = np.median(scales)
    assert all(0.2 * median < scale < 5 * median for scale in scales)


def test_a_picture_without_depth_is_turned_down(tmp_path: Path) -> None:
    nothing = DepthMap(depth=np.zeros((30, 40), np.float32), confidence=np.zeros((30, 40), "f4"))
    scales = written(tmp_path, {"one.png": depth_map(1, 2), "none.png": nothing})
    assert scales["none.png"] == 0  # less than a fifth of the median
    assert not np.asarray(Image.open(tmp_path / "depths" / "none.png")).any()
    params = json.loads((tmp_path / "sparse/0/depth_params.json").read_text())
    assert params["none"]["unknown_share"] == 1
    assert params["one"]["unknown_share"] == pytest.approx(5 / 30)


def test_two_photos_with_one_stem_are_refused() -> None:
    check_stems(["a/one.jpg", "b/one.jpg", "one.jpg"])
    with pytest.raises(InputError, match=r"one\.png: and one\.jpg would share .*Rename"):
        check_stems(["one.jpg", "one.png"])
