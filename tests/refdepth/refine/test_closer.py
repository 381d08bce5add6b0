"""A closer look at large photos: it finds what the working grid cannot show, and nothing else
changes."""

import numpy as np
import pytest
import torch

from refdepth.geometry.working_view import WorkingView
from refdepth.refine import closer
from refdepth.refine.closer import finer_factor, look_closer
from refdepth.refine.settings import CloserSettings, RefineSettings
from refdepth.synthetic.detail import make_detail
from refdepth.types.scene import PosedImage

SETTINGS = RefineSettings(working_pixels=3100, closer=CloserSettings(max_pixels=20_000))
"""For photos of 320x240: reduced by five, then by two."""


@pytest.fixture(scope="module")
def wall():
    return make_detail(views=5, width=320, height=240)


def views_of(wall, mask=None) -> list[WorkingView]:
    photos = [
        PosedImage(
            camera=view.camera, cam_from_world=view.cam_from_world, image=view.image, mask=mask
        )
        for view in wall.scene.views
    ]
    ref, *sources = (WorkingView.of(photo, **SETTINGS.grid) for photo in photos[::-1])
    return [ref, *sources]


@pytest.fixture(scope="module")
def smooth(wall) -> np.ndarray:
    """The wall's depth without bars, two thousandths off."""
    truth = wall.scene.views[-1].depth
    bars = np.isin(wall.scene.views[-1].surface, [bar.surface for bar in wall.bars])
    return np.where(bars, np.median(truth), truth).astype(np.float32) * np.float32(1.002)


def test_bars_are_found_that_the_depth_does_not_have(wall, smooth):
    view = wall.scene.views[-1]
    widest = [bar.surface for bar in wall.bars if bar.width == max(b.width for b in wall.bars)]
    on = np.isin(view.surface, widest)
    ref, *sources = views_of(wall)
    found = look_closer(ref, sources, smooth, SETTINGS)
    assert np.mean(np.abs(smooth / view.depth - 1)[on] < 0.03) < 0.05
    assert np.mean(np.abs(found / view.depth - 1)[on] < 0.03) > 0.5
    plain = view.surface == wall.smooth[0]
    error = np.abs(found / view.depth - 1)[plain]
    assert np.median(error) < 0.001  # it was 0.002
    assert np.mean(error < 0.03) > 0.95


def test_without_a_finer_grid_the_depth_is_the_very_same(wall, smooth):
    ref, *sources = views_of(wall)
    for most in (0, SETTINGS.working_pixels):
        settings = SETTINGS.model_copy(update={"closer": CloserSettings(max_pixels=most)})
        assert finer_factor(ref.grid, settings) == ref.grid.factor == 5
        assert look_closer(ref, sources, smooth, settings) is smooth


def test_photos_of_two_megapixels_are_not_looked_at_again_by_any_quality():
    for width, height, factor in ((1632, 1224, 2), (4032, 3024, 2), (6000, 4000, 3)):
        grid = WorkingView.of(
            PosedImage(
                camera=make_detail(views=1, width=16, height=12).scene.camera,
                cam_from_world=np.eye(4),
                image=np.zeros((12, 16, 3), np.uint8),
            ),
            max_pixels=10**6,
        ).grid
        camera = type(grid.photo)(K=np.eye(3), width=width, height=height)
        settings = RefineSettings.preset("high")
        large = type(grid).for_photo(camera, **settings.grid)
        assert finer_factor(large, settings) == factor
        assert finer_factor(large, RefineSettings()) == large.factor


def test_parts_say_what_the_whole_says(wall, smooth, monkeypatch):
    ref, *sources = views_of(wall)
    monkeypatch.setattr(closer, "LEAST_ROWS", 24)
    monkeypatch.setattr(closer, "HALO_ROWS", 16)
    in_parts = look_closer(ref, sources, smooth, SETTINGS)
    monkeypatch.setattr(closer, "LEAST_ROWS", 1000)
    whole = look_closer(ref, sources, smooth, SETTINGS)
    differs = np.abs(in_parts / whole - 1) > 1e-4
    assert not np.array_equal(in_parts, whole)
    assert differs.mean() < 0.01


def test_what_a_mask_leaves_out_is_not_searched(wall, smooth):
    mask = np.ones(smooth.shape, bool)
    mask[80:160, 100:200] = False
    ref, *sources = views_of(wall, mask)
    found = look_closer(ref, sources, smooth, SETTINGS)
    inner = (slice(100, 140), slice(120, 180))
    assert np.abs(found / smooth - 1)[inner].max() < 0.003
    assert np.isfinite(found).all()


def test_on_tensors_it_finds_the_same(wall, smooth):
    ref, *sources = views_of(wall)
    expected = look_closer(ref, sources, smooth, SETTINGS)
    device = torch.device("cpu")
    on = [view.on(device) for view in (ref, *sources)]
    found = look_closer(on[0], on[1:], torch.from_numpy(smooth), SETTINGS).numpy()
    assert np.mean(np.abs(found / expected - 1) < 1e-4) > 0.99
