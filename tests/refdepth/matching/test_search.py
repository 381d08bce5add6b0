"""Matching against windows compared one by one, and on a slanted plane with exact depth."""

import numba
import numpy as np
import pytest

from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.cost_kernels import MISSING_COST
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
