"""Colours of views with exposures of their own, against the colour they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wall_scene import FAR, FOCAL, HEIGHT, WIDTH

from refdepth.fusion import ColourRatio, FusionSettings, even_gains, fuse
from refdepth.fusion.exposure import evened
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

GAINS = {
    "0.png": (1.3, 1.3, 1.3),
    "1.png": (0.8, 0.9, 1.0),
    "2.png": (1.0, 1.0, 1.0),
    "3.png": (0.7, 0.7, 0.8),
    "4.png": (1.2, 1.1, 1.0),
}


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of the wall's points, smooth."""
    shade = 100 + 30 * np.sin(2 * x) * np.cos(3 * y)
    return np.stack([shade, 0.8 * shade, 0.6 * shade], axis=-1)


@pytest.fixture
def exposed(wall, tmp_path: Path) -> tuple[Scene, dict[str, DepthMap]]:
    """A wall whose photos differ in exposure and white balance."""
    scene, _ = wall
    views, maps = [], {}
    for view in scene.views:
        points = view.camera.rays() * FAR + view.center
        colour = texture(points[..., 0], points[..., 1]) * GAINS[view.name]
        path = tmp_path / f"exposed-{view.name}"
        Image.fromarray(np.rint(colour).astype(np.uint8)).save(path)
        views.append(replace(view, image_path=path))
        depth = np.full((HEIGHT, WIDTH), FAR, np.float32)
        maps[view.name] = DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))
    return Scene(views, scene.points), maps


def test_photos_of_several_exposures_give_one_colour(exposed):
    scene, maps = exposed
    cloud = fuse(scene, maps.__getitem__, FusionSettings())
    mean = np.exp(np.mean(np.log(list(GAINS.values())), axis=0))  # what they share stays
    expected = texture(cloud.points[:, 0], cloud.points[:, 1]) * mean
    ratio = cloud.colors / expected
    assert np.abs(ratio - 1).max() < 0.03
    assert np.ptp(cloud.points[:, 0]) > FAR / FOCAL * WIDTH  # of more than one view


def test_gains_are_those_that_pairs_ask_for_and_a_wrong_pair_is_outvoted():
    rng = np.random.default_rng(0)
    names = [f"{i:02d}" for i in range(12)]
    true = {name: rng.uniform(-0.3, 0.3, 3) for name in names}
    middle = np.mean(list(true.values()), axis=0)
    pairs = [
        ColourRatio(
            view=a,
            source=b,
            log_ratio=tuple(true[b] - true[a]),
            count=int(rng.integers(50, 5000)),
        )
        for i, a in enumerate(names)
        for b in (names[i - 1], names[i - 2], names[i - 3])
    ]
    pairs[7] = replace(pairs[7], log_ratio=(0.5, -0.5, 0.5))
    gains = even_gains(names, pairs)
    for name in names:
        np.testing.assert_allclose(np.log(gains[name]), middle - true[name], atol=0.03)


def test_views_that_share_nothing_keep_their_colours():
    gains = even_gains(["a", "b"], [])
    np.testing.assert_array_equal(list(gains.values()), np.ones((2, 3)))


@pytest.mark.parametrize("gain", [0.6, 1.0, 1.3, 2.0])
def test_bright_things_keep_their_drawing(gain):
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    out = evened(levels, np.full(3, gain))[:, 0]
    plain = np.arange(256) * gain
    np.testing.assert_allclose(out[plain < 191], plain[plain < 191])
    assert (np.diff(out) > 0).all()
    assert out[255] == pytest.approx(min(plain[255], 255))
    if gain <= 1:
        np.testing.assert_allclose(out, plain)
    assert np.diff(out).max() == pytest.approx(gain, rel=0.01)  # nowhere steeper, no kink upwards
