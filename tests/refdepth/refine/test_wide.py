"""Priors too far off for the search around them, on a small room with exact depth."""

import numpy as np
import pytest

from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import select_sources
from refdepth.matching.plane_sweep import sweep_planes
from refdepth.matching.settings import MatchSettings
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import RefineSettings, WideSettings
from refdepth.refine.wide import bend_to_photos, measured_error, prior_errors
from refdepth.synthetic import make_scene
from refdepth.types.scene import SparseDepth

SETTINGS = RefineSettings(iterations=0, sources=5)
FAR_OFF = 0.5


class Room:
    def __init__(self, folder):
        synthetic = make_scene("room", seed=1, views=6, width=240, height=180)
        self.scene = synthetic.to_scene(folder)
        self.names = self.scene.names
        self.truth = {
            name: view.depth for name, view in zip(self.names, synthetic.views, strict=True)
        }
        self.views = {
            name: WorkingView.of(load_photo(self.scene[name]), **SETTINGS.grid)
            for name in self.names
        }

    def inputs(self, name, scaled, **more):
        sources = select_sources(self.scene, self.scene[name], SETTINGS.sources)
        return {
            "ref": self.views[name],
            "sources": [self.views[other] for other in sources],
            "scaled": scaled.astype(np.float32),
            "sparse": self.scene.sparse_depth(self.scene[name]),
            "settings": SETTINGS,
            **more,
        }

    def error(self, name, depth):
        truth = self.truth[name]
        if depth.shape != truth.shape:
            truth = self.views[name].grid.shrink_depth(truth)
        return np.abs(np.log(depth / truth))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    return Room(tmp_path_factory.mktemp("room"))


def upside_down(truth):
    return np.median(truth) ** 2 / truth


def constant(truth):
    return np.full_like(truth, np.median(truth))


def half_wrong(truth):
    """Twice as far in the right half of the picture."""
    return truth * np.where(np.arange(truth.shape[1]) < truth.shape[1] // 2, 1, 2)


def drifting(truth):
    """From two thirds of the depth on the left to one and a half times on the right."""
    return truth * np.exp(np.linspace(np.log(2 / 3), np.log(3 / 2), truth.shape[1]))


@pytest.mark.parametrize("wrong", [upside_down, constant, half_wrong, drifting])
def test_a_prior_far_off_is_found_out_by_the_photos(room, wrong):
    name = room.names[2]
    scaled = wrong(room.truth[name])
    around, wide = (
        first_round(**room.inputs(name, scaled, prior_error=error)) for error in (0.0, FAR_OFF)
    )
    before, kept, bent = (
        float((room.error(name, depth) < 0.03).mean())
        for depth in (scaled, around.depth, wide.depth)
    )
    assert bent > 0.6 > before
    assert bent > kept + 0.05


def test_the_second_round_keeps_what_the_first_has_found(room):
    scaled = {name: upside_down(room.truth[name]) for name in room.names}
    first = {
        name: first_round(**room.inputs(name, scaled[name], prior_error=FAR_OFF))
        for name in room.names
    }
    name = room.names[2]
    sources = select_sources(room.scene, room.scene[name], SETTINGS.sources)
    found = second_round(
        **room.inputs(name, scaled[name], prior_error=FAR_OFF),
        first=first[name].depth_map,
        source_depths=[first[other].depth_map for other in sources],
    )
    on_grid = room.views[name].grid.shrink_depth(found.depth)
    right = [float((room.error(name, d) < 0.03).mean()) for d in (first[name].depth, on_grid)]
    assert right[1] > right[0] - 0.01
    assert right[1] > 0.8


def test_a_prior_within_the_search_is_left_alone(room):
    name = room.names[1]
    inputs = room.inputs(name, room.truth[name] * 1.05)
    by_points = first_round(**inputs)
    assert by_points.record["prior_error"] == pytest.approx(np.log(1.05), rel=0.2)
    assert np.array_equal(by_points.depth, first_round(**inputs, prior_error=0.0).depth)
    assert not np.array_equal(by_points.depth, first_round(**inputs, prior_error=FAR_OFF).depth)


def test_unknown_depth_is_not_made_up(room):
    name = room.names[1]
    ref, *sources = (room.views[n] for n in room.names)
    base = ref.grid.shrink_depth(room.truth[name])
    base[:, :40] = 0
    sparse = room.scene.sparse_depth(room.scene[name])
    bent = bend_to_photos(ref, sources, base, sparse, WideSettings())
    assert np.array_equal(bent == 0, base == 0)
    nothing = np.zeros_like(base)
    assert not bend_to_photos(ref, sources, nothing, sparse, WideSettings()).any()


def test_a_sweep_finds_exact_depth_where_it_is_sure(room):
    name = room.names[3]
    sources = select_sources(room.scene, room.scene[name], 5)
    truth = room.views[name].grid.shrink_depth(room.truth[name])
    bounds = float(truth.min()) / 2, float(truth.max()) * 2
    found = sweep_planes(
        room.views[name], [room.views[s] for s in sources], bounds, 96, MatchSettings()
    )
    sure = found.confidence > 0.7
    assert sure.mean() > 0.2
    assert np.median(np.abs(found.log_depth - np.log(truth))[sure]) < 0.01


def test_the_error_of_a_prior_is_three_quarters_of_its_points(room):
    view = room.views[room.names[0]]
    base = np.full(view.grid.shape, 2.0, np.float32)
    depth = 2 * np.exp(np.linspace(0, 0.4, 41))
    xy = np.stack([np.arange(41) * 2 + 1.0, np.full(41, 9.0)], axis=1)

    def points(count):
        return SparseDepth(
            xy=xy[:count],
            depth=depth[:count],
            track_length=np.full(count, 3),
            error_px=np.zeros(count),
            point_index=np.arange(count),
        )

    assert measured_error(base, points(41), view.grid) == pytest.approx(0.3)
    assert measured_error(base, points(10), view.grid) == 0


def test_the_middling_view_speaks_for_all_but_those_that_stand_out():
    measured = {"a": 0.1, "b": 0.2, "c": 0.59, "d": 0.61, "e": 0.15, "f": np.nan}
    assert prior_errors(measured) == dict.fromkeys("abcef", 0.2) | {"d": 0.61}
    assert prior_errors({"a": np.nan}) == {"a": 0.0}


def test_the_closest_other_views_show_what_lies_near(room):
    """Sources far to the sides do not see a near thing, or see it too differently."""
    name = room.names[2]
    scaled = constant(room.truth[name])
    two = room.inputs(name, scaled, prior_error=FAR_OFF)
    two["sources"] = [room.views[other] for other in (room.names[0], room.names[5])]
    near = [room.views[other] for other in (room.names[1], room.names[3])]
    right = [
        float((room.error(name, first_round(**two, close=close).depth) < 0.03).mean())
        for close in ((), near)
    ]
    assert right[1] > right[0] + 0.02


def test_a_prior_is_bent_to_the_judge_too_but_not_searched_in_it(room):
    """Of two sources the second judges; here it is exchanged for another photo."""
    name, *others = room.names
    scaled = room.truth[name] * np.float32(1.02)
    depths = {}
    for judge in others[1:3]:
        inputs = room.inputs(name, scaled)
        inputs["sources"] = [room.views[others[0]], room.views[judge]]
        for error in (0.0, FAR_OFF):
            depths[judge, error] = first_round(**inputs, prior_error=error).depth
    first, second = others[1:3]
    assert np.array_equal(depths[first, 0.0], depths[second, 0.0])
    assert not np.array_equal(depths[first, FAR_OFF], depths[second, FAR_OFF])
