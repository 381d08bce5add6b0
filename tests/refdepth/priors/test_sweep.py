"""The plane sweep on a small room with exact depth."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from refdepth.priors.resolution import in_photo
from refdepth.priors.sweep import SweepPrior, SweepSettings, depth_bounds
from refdepth.synthetic import make_scene
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene, SparsePoints

SETTINGS = SweepSettings(planes=64, sources=4)
LEVELLED = 0.08
"""Share of its unevenness that filled inverse depth may have lost; one smooth map loses 0.12."""


@pytest.fixture(scope="module")
def synthetic():
    return make_scene("room", seed=1, views=5, width=240, height=180)


@pytest.fixture(scope="module")
def scene(synthetic, tmp_path_factory) -> Scene:
    return synthetic.to_scene(tmp_path_factory.mktemp("sweep"))


def test_most_of_a_textured_room_is_found_and_nothing_runs_away(synthetic, scene):
    view = scene.views[2]
    prior = SweepPrior(SETTINGS).estimate(view, scene)
    assert prior.kind == PriorKind.METRIC
    assert prior.step == (2, 2)
    assert not prior.in_metres
    error = np.abs(in_photo(prior, view.camera.shape).values / synthetic.views[2].depth - 1)
    assert np.median(error) < 0.02
    assert error.mean() < 0.15
    near, far = depth_bounds(view, scene, scene.sparse_depth(view), near_margin=4.0, far_margin=1.1)
    assert prior.values.min() >= near * 0.999
    assert prior.values.max() <= far * 1.001


def test_its_confidence_tells_sure_from_filled(synthetic, scene):
    view = scene.views[2]
    prior = SweepPrior(SETTINGS).estimate(view, scene)
    error = np.abs(in_photo(prior, view.camera.shape).values / synthetic.views[2].depth - 1)
    sure = in_photo(prior, view.camera.shape).confidence > 0.5
    assert error[sure].mean() < 0.6 * error[~sure].mean()


def test_filling_does_not_level_slopes(synthetic, scene):
    """The error of inverse depth, regressed on what is uneven in the true one: a smooth map takes a
    part of that away."""
    products = squares = 0.0
    for view, made in zip(scene.views, synthetic.views, strict=True):
        prior = SweepPrior(SETTINGS).estimate(view, scene)
        found, true = 1 / in_photo(prior, view.camera.shape).values, 1 / made.depth
        uneven = true - uniform_filter(true, 25)
        good = np.abs(found / true - 1) < 0.03
        products += float((uneven * (found - true))[good].sum())
        squares += float((uneven**2)[good].sum())
    assert abs(products / squares) < LEVELLED


def test_the_same_scene_gives_the_same_bits(scene):
    one, two = (SweepPrior(SETTINGS).estimate(scene.views[1], scene) for _ in range(2))
    assert np.array_equal(one.values, two.values)


def test_a_view_without_points_takes_the_scenes_range(synthetic, scene):
    view = scene.views[2]
    blind = replace(view, point_index=view.point_index[:0], point_xy=view.point_xy[:0])
    alone = Scene([blind if v.name == view.name else v for v in scene.views], scene.points)
    prior = SweepPrior(SETTINGS).estimate(blind, alone)
    error = np.abs(in_photo(prior, view.camera.shape).values / synthetic.views[2].depth - 1)
    assert np.median(error) < 0.05


def test_without_any_point_nothing_is_said(scene):
    none = SparsePoints(
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        track_length=np.zeros(0, np.int64),
    )
    views = [
        replace(v, point_index=v.point_index[:0], point_xy=v.point_xy[:0]) for v in scene.views
    ]
    empty = Scene(views, none)
    prior = SweepPrior(SETTINGS).estimate(empty.views[0], empty)
    assert np.isnan(prior.values).all()
    assert not prior.confidence.any()


def test_its_identity_changes_with_its_settings():
    one, two = SweepPrior(SETTINGS), SweepPrior(SweepSettings(planes=65, sources=4))
    assert one.identity["source"] == "sweep"
    assert one.identity != two.identity
    assert json.loads(one.identity["settings"])["planes"] == 64
