"""A closer look at large photos: it finds what the working grid cannot show, and nothing else
changes."""

import numpy as np
import pytest
import torch

from refdepth.geometry.grid import WorkGrid
from refdepth.geometry.working_view import WorkingView
from refdepth.refine import closer
from refdepth.refine.closer import look_closer
from refdepth.refine.settings import CloserSettings, RefineSettings
from refdepth.synthetic.detail import make_detail
from refdepth.types.camera import PinholeCamera
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
    """Depth two thousandths off, in which the pillar before the wall is missing."""
    view = wall.scene.views[-1]
    behind = np.median(view.depth[view.surface == wall.smooth[0]])
    depth = np.where(view.surface == wall.smooth[2], behind, view.depth)
    return depth.astype(np.float32) * np.float32(1.002)


def test_what_the_depth_lacks_is_found_and_the_rest_is_closer_to_the_truth(wall, smooth):
    view = wall.scene.views[-1]
    ref, *sources = views_of(wall)
    before, after = (
        np.abs(depth / view.depth - 1)
        for depth in (smooth, look_closer(ref, sources, smooth, SETTINGS))
    )
    pillar, plain = view.surface == wall.smooth[2], view.surface == wall.smooth[0]
    assert np.mean(before[pillar] < 0.03) < 0.2
    assert np.mean(after[pillar] < 0.03) > 0.7
    assert np.median(after[plain]) < 0.0013  # it was 0.002
    assert np.mean(after[plain] < 0.03) > 0.97


def test_without_a_finer_grid_the_depth_is_the_very_same(wall, smooth):
    ref, *sources = views_of(wall)
    for most in (0, SETTINGS.working_pixels):
        settings = SETTINGS.model_copy(update={"closer": CloserSettings(max_pixels=most)})
        assert ref.grid.factor == 5
        assert look_closer(ref, sources, smooth, settings) is smooth


def test_only_large_photos_have_a_finer_grid_and_only_at_the_highest_quality():
    def factors(quality: str, width: int, height: int) -> tuple[int, int]:
        settings = RefineSettings.preset(quality)
        camera = PinholeCamera(K=np.eye(3), width=width, height=height)
        working, finer = (
            WorkGrid.for_photo(camera, **limits).factor
            for limits in (settings.grid, settings.finer_grid)
        )
        return working, finer

    assert factors("high", 1632, 1224) == (2, 2)
    assert factors("high", 4032, 3024) == (5, 2)
    assert factors("high", 6000, 4000) == (7, 3)
    for quality in ("fast", "balanced"):
        assert factors(quality, 4032, 3024) == (5, 5)


def test_parts_say_what_the_whole_says(wall, smooth, monkeypatch):
    """To a part of the step from one depth that is tried to the next: a path of costs begins where
    its part does."""
    ref, *sources = views_of(wall)
    monkeypatch.setattr(closer, "LEAST_ROWS", 24)
    in_parts = look_closer(ref, sources, smooth, SETTINGS)
    monkeypatch.setattr(closer, "LEAST_ROWS", 1000)
    whole = look_closer(ref, sources, smooth, SETTINGS)
    differs = np.abs(in_parts / whole - 1)
    assert differs.max() > 0
    assert np.quantile(differs, 0.99) < 0.25 * SETTINGS.closer.step


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
