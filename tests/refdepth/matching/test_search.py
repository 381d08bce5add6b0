"""Matching against windows compared one by one, and on a slanted plane with exact depth."""

from dataclasses import replace

import numba
import numpy as np
import pytest
from scipy import ndimage

from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.cost_kernels import MIN_VARIANCE, MISSING_COST
from refdepth.matching.search import search
from refdepth.matching.settings import MatchSettings
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.scene import PosedImage

CAMERA = PinholeCamera(K=np.array([[90.0, 0, 48], [0, 90, 36], [0, 0, 1]]), width=96, height=72)
PLAIN = MatchSettings(support_gray=0.0, best_sources=1)


def _pattern(x, y):
    """A smooth, non-repeating grey pattern on a plane, in [0, 1]."""
    wave = np.sin(9 * x + 2 * np.sin(5 * y)) + np.sin(11 * y + 3 * x) + np.sin(17 * (x - y))
    return 0.5 + wave / 6


def _plane_view(center_x: float) -> tuple[PosedImage, np.ndarray]:
    """A photo of the plane z = 2 + 0.3 x from (center_x, 0, 0), and its exact depth."""
    rays = CAMERA.rays()
    depth = (2 + 0.3 * center_x) / (1 - 0.3 * rays[..., 0])
    points = rays * depth[..., None] + [center_x, 0, 0]
    gray = _pattern(points[..., 0], points[..., 1])
    image = np.repeat(gray[..., None], 3, axis=-1).astype(np.float32)
    pose = pose_matrix(np.eye(3), [-center_x, 0, 0])
    return PosedImage(camera=CAMERA, cam_from_world=pose, image=image), depth.astype(np.float32)


def _compare(ref, sources, factor, settings) -> Comparison:
    ref, *sources = (
        WorkingView.of(each, max_pixels=10**6, least_factor=factor) for each in (ref, *sources)
    )
    return Comparison.of(Windows.of(ref, settings), sources)


def _zncc(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())


def test_cost_is_one_minus_the_correlation_of_windows():
    ref, depth = _plane_view(0.0)
    source, _ = _plane_view(0.2)
    match = _compare(ref, [source], 1, PLAIN)
    guess = depth * np.float32(1.03)
    cost = match.cost(guess)
    x = CAMERA.pixel_grid()[..., 0] - 90 * 0.2 / guess - 0.5
    row = np.arange(72)
    left = np.floor(x).astype(int)
    gray = source.image[..., 0]
    inside = (left >= 0) & (left < 95)
    left = np.clip(left, 0, 94)
    low, high = gray[row[:, None], left], gray[row[:, None], left + 1]
    warped = low + (x - left) * (high - low)
    for r, c in ((20, 40), (36, 60), (50, 80)):
        window = np.s_[r - 2 : r + 3, c - 2 : c + 3]
        assert inside[window].all()
        expected = 1 - _zncc(ref.image[..., 0][window], warped[window])
        np.testing.assert_allclose(cost[r, c], expected, atol=2e-3)


def _slow_cost(ref, depth, source, side):
    """1 - ZNCC of every pixel's bilateral window, each window whole, in float64."""
    height, width = ref.gray.shape
    relative = source.cam_from_world @ np.linalg.inv(ref.cam_from_world)
    K_ref, K = ref.grid.camera.K, source.grid.camera.K
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    rays = np.concatenate([pixels, np.ones((height, width, 1))], axis=-1) @ np.linalg.inv(K_ref).T
    points = rays * depth[..., None] @ relative[:3, :3].T + relative[:3, 3]
    projected = points @ K.T
    u, v = np.moveaxis(projected[..., :2] / projected[..., 2:], -1, 0)
    seen = (u > 0.5) & (v > 0.5) & (u < source.gray.shape[1] - 0.5)
    seen &= v < source.gray.shape[0] - 0.5
    u = np.clip(u, 0.5, source.gray.shape[1] - 0.5) - 0.5
    v = np.clip(v, 0.5, source.gray.shape[0] - 0.5) - 0.5
    seen &= source.usable[np.rint(v).astype(int), np.rint(u).astype(int)]
    warped = ndimage.map_coordinates(source.gray.astype(np.float64), [v, u], order=1)
    g, j, inside = (
        np.lib.stride_tricks.sliding_window_view(np.pad(each, side // 2), (side, side))
        for each in (ref.gray.astype(np.float64), warped, np.ones(depth.shape))
    )
    w = np.exp(-np.abs(g - g[..., side // 2, side // 2, None, None]) / 0.1) * inside
    w /= w.sum((2, 3), keepdims=True)
    g, j = (each - (w * each).sum((2, 3), keepdims=True) for each in (g, j))
    spread = [np.maximum((w * each**2).sum((2, 3)), MIN_VARIANCE) for each in (g, j)]
    cost = np.clip(1 - (w * g * j).sum((2, 3)) / np.sqrt(spread[0] * spread[1]), 0, 1.5)
    return np.where(seen, cost, MISSING_COST)


@pytest.mark.parametrize("side", [3, 5, 7])
def test_volume_is_the_mean_cost_of_the_best_sources_compared_pixel_by_pixel(side):
    """The picture is one and a half tiles wide and three bands high."""
    settings = MatchSettings(window_px=side, support_gray=0.1)
    ref, depth = _plane_view(0.0)
    mask = np.ones(CAMERA.shape, bool)
    mask[30:50, 50:80] = False
    sources = []
    for x in (-0.3, 0.1, 0.25):
        photo, _ = _plane_view(x)
        sources.append(replace(photo, mask=mask))
    match = _compare(ref, sources, 1, settings)
    found = match.volume(depth, np.array([0.95, 1.1], np.float32), 2)
    views = [WorkingView.of(each, max_pixels=10**6) for each in (ref, *sources)]
    for d, factor in enumerate((0.95, 1.1)):
        costs = [_slow_cost(views[0], depth * factor, view, side) for view in views[1:]]
        expected = np.sort(costs, axis=0)[:2].mean(axis=0)
        # Places on the very edge of what is seen may fall to either side.
        off = np.abs(found[..., d] - expected)
        assert (off > 2e-3).mean() < 2e-3
        assert np.median(off) < 1e-5


def test_a_source_of_a_single_pixel_is_never_seen():
    camera = PinholeCamera(K=np.array([[9.0, 0, 0.5], [0, 9, 0.5], [0, 0, 1]]), width=1, height=1)
    ref, depth = _plane_view(0.0)
    image = np.full((1, 1, 3), 0.5, np.float32)
    match = _compare(
        ref, [PosedImage(camera=camera, cam_from_world=np.eye(4), image=image)], 1, PLAIN
    )
    assert match.images.shape == (1, 2, 2)  # a bilinear lookup reads two a side
    assert np.all(match.cost(depth) == np.float32(MISSING_COST))


def test_a_plain_pixel_beside_a_textured_thing_has_no_texture():
    gray = np.full((72, 96), 0.5, np.float32)
    gray[20:50, 30:60] = np.random.default_rng(0).uniform(0, 1, (30, 30))
    view = PosedImage(
        camera=CAMERA, cam_from_world=np.eye(4), image=np.repeat(gray[..., None], 3, axis=-1)
    )
    texture = _compare(view, [view], 1, PLAIN).windows.texture
    thing = np.zeros_like(gray, bool)
    thing[20:50, 30:60] = True
    assert texture[thing].min() == 1.0
    assert texture[~thing].max() < 0.2


def test_exact_depth_matches_and_other_depth_does_not():
    ref, depth = _plane_view(0.0)
    source, _ = _plane_view(0.2)
    match = _compare(ref, [source], 1, PLAIN)
    inner = np.s_[5:-5, 20:-5]
    right, wrong = (np.median(match.cost(depth * np.float32(f))[inner]) for f in (1, 1.2))
    assert right < 0.02
    assert wrong > 10 * right


def test_what_no_source_sees_costs_as_missing():
    ref, depth = _plane_view(0.0)
    source, _ = _plane_view(0.2)
    match = _compare(ref, [source], 1, PLAIN)
    assert np.all(match.cost(depth)[:, 0] == np.float32(MISSING_COST))
    assert np.all(match.cost(np.zeros_like(depth)) == np.float32(MISSING_COST))


def test_a_masked_source_has_no_vote():
    ref, depth = _plane_view(0.0)
    source, _ = _plane_view(0.2)
    mask = np.zeros(CAMERA.shape, bool)
    hidden = PosedImage(
        camera=CAMERA, cam_from_world=source.cam_from_world, image=source.image, mask=mask
    )
    match = _compare(ref, [hidden], 1, PLAIN)
    assert np.all(match.cost(depth) == np.float32(MISSING_COST))


@pytest.mark.parametrize("error", [0.9, 1.07])
def test_search_undoes_a_wrong_scale_between_the_steps(error):
    ref, depth = _plane_view(0.0)
    sources = [_plane_view(x)[0] for x in (-0.25, -0.15, 0.15, 0.25)]
    settings = MatchSettings(best_sources=2, prior_penalty=0.0)
    match = _compare(ref, sources, 1, settings)
    changes = np.linspace(-0.2, 0.2, 41).astype(np.float32)
    found = search(match, depth * np.float32(error), np.exp(changes), settings)
    change = np.interp(found.step, np.arange(41), changes)
    off = np.abs(change + np.log(error))[5:-5, 10:-10]
    assert np.median(off) < 0.003  # a third of a step: a parabola pulls towards the steps
    assert np.quantile(off, 0.95) < 0.01


def test_results_do_not_depend_on_the_number_of_threads():
    ref, depth = _plane_view(0.0)
    sources = [_plane_view(x)[0] for x in (-0.2, 0.2)]
    settings = MatchSettings()
    changes = np.exp(np.linspace(-0.2, 0.2, 21)).astype(np.float32)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            match = _compare(ref, sources, 2, settings)
            results.append(search(match, depth[::2, ::2].copy(), changes, settings))
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(results[0].step, results[1].step)
    assert np.array_equal(results[0].zncc, results[1].zncc)


def test_what_a_mask_leaves_out_is_in_no_other_window():
    """Something that moved stands before the plane in the reference alone."""
    ref, depth = _plane_view(0.0)
    source, _ = _plane_view(0.2)
    moved = np.zeros(CAMERA.shape, bool)
    moved[20:50, 30:60] = True
    image = ref.image.copy()
    image[moved] = np.random.default_rng(0).random((moved.sum(), 3))
    seen = replace(ref, image=image)
    around = ndimage.maximum_filter(moved, PLAIN.window_px)
    costs = [
        _compare(photo, [source], 1, PLAIN).cost(depth)[around & ~moved]
        for photo in (seen, replace(seen, mask=~moved))
    ]
    assert np.median(costs[0]) > 0.1
    assert costs[1].max() < 0.02
