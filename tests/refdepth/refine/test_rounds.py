"""Both rounds on a small room with exact depth."""

from dataclasses import dataclass

import numpy as np
import pytest

from refdepth.evaluation.metrics import sparsification
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import select_sources
from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scale
from refdepth.refine.rounds import RefinedView, first_round, second_round
from refdepth.refine.settings import RefineSettings
from refdepth.synthetic import make_scene
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

SETTINGS = RefineSettings(iterations=0, sources=5)


@dataclass
class Room:
    scene: Scene
    photos: dict
    truth: dict
    scaled: dict
    first: dict[str, RefinedView]

    def arguments(self, name: str) -> dict:
        sources = select_sources(self.scene, self.scene[name], SETTINGS.sources)
        return {
            "ref": self.photos[name],
            "sources": [self.photos[other] for other in sources],
            "scaled": self.scaled[name],
            "sparse": self.scene.sparse_depth(self.scene[name]),
            "settings": SETTINGS,
        }

    def second(self, name: str, **changes) -> RefinedView:
        sources = select_sources(self.scene, self.scene[name], SETTINGS.sources)
        arguments = self.arguments(name) | {
            "first": self.first[name].depth_map,
            "source_depths": [self.first[other].depth_map for other in sources],
        }
        return second_round(**(arguments | changes))

    def error(self, name: str, depth: np.ndarray) -> np.ndarray:
        truth = self.truth[name]
        if depth.shape != truth.shape:
            truth = self.shrunk(name, truth)
        return np.abs(depth / truth - 1)

    def shrunk(self, name: str, depth: np.ndarray) -> np.ndarray:
        """A depth map on the working grid."""
        return self.photos[name].grid.shrink_depth(depth)


@pytest.fixture(scope="module", params=["smooth", "objectwise"])
def room(request, tmp_path_factory) -> Room:
    synthetic = make_scene("room", seed=1, views=6, width=240, height=180)
    scene = synthetic.to_scene(tmp_path_factory.mktemp("room"))
    room = Room(scene, {}, {}, {}, {})
    for index, view in enumerate(synthetic.views):
        name = scene.names[index]
        assert name.split(".")[0] == view.name.split(".")[0]
        prior = synthetic.simulated_prior(index, error=request.param)
        fit = fit_scale(prior, scene.sparse_depth(scene[name]), ScaleSettings())
        room.photos[name] = WorkingView.of(load_photo(scene[name]), **SETTINGS.grid)
        room.truth[name] = view.depth
        room.scaled[name] = apply_fit(prior, fit)
    for name in scene.names:
        room.first[name] = first_round(**room.arguments(name))
    return room


@pytest.fixture(scope="module")
def refined(room) -> dict[str, RefinedView]:
    return {name: room.second(name) for name in room.scene.names}


def test_each_round_takes_most_of_the_error_away(room, refined):
    for name in room.scene.names:
        scaled, first, second = (
            float(np.median(room.error(name, depth)))
            for depth in (room.scaled[name], room.first[name].depth, refined[name].depth)
        )
        assert first < 0.5 * scaled
        assert second < 0.34 * scaled
        mean = [float(room.error(name, d).mean()) for d in (room.scaled[name], refined[name].depth)]
        assert mean[1] < mean[0]


def test_confidence_orders_the_errors(room, refined):
    errors = np.concatenate([room.error(n, refined[n].depth).ravel() for n in refined])
    confidence = np.concatenate([refined[n].confidence.ravel() for n in refined])
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    curve = sparsification(errors, confidence)
    assert curve.ause < 0.5 * curve.ause_random
    assert curve.gain_of_dropping(0.2) > 0.25


def test_the_record_names_what_was_kept(refined):
    for view in refined.values():
        assert 0.5 < view.record["accepted_share"] <= 1
        assert view.record["held_out_after"] > view.record["held_out_before"]
        assert not view.record["kept_prior"]


def test_the_same_inputs_give_the_same_bits(room, refined):
    name = room.scene.names[2]
    again = first_round(**room.arguments(name))
    assert np.array_equal(again.depth, room.first[name].depth)
    assert np.array_equal(room.second(name).depth, refined[name].depth)


def test_a_wrong_refinement_is_turned_down(room):
    """The view's own and its neighbours' maps agree on a surface 15 % too far away."""
    name = room.scene.names[2]
    sources = select_sources(room.scene, room.scene[name], SETTINGS.sources)
    truth = room.truth[name]

    def too_far(view: str) -> DepthMap:
        depth = room.shrunk(view, room.truth[view] * np.float32(1.15))
        return DepthMap(depth=depth, confidence=np.ones_like(depth))

    kept = room.second(
        name,
        scaled=truth,
        first=too_far(name),
        source_depths=[
            DepthMap(depth=right, confidence=np.ones_like(right))
            if i == len(sources) // 2
            else too_far(s)
            for i, s in enumerate(sources)
            for right in [room.shrunk(s, room.truth[s])]
        ],
        settings=SETTINGS.model_copy(
            update={"search_again": SETTINGS.search_again.model_copy(update={"range": 1e-3})}
        ),
    )
    assert kept.record["kept_prior"]
    assert room.error(name, kept.depth).mean() < 0.01


def test_unknown_depth_stays_unknown_and_without_confidence(room):
    name = room.scene.names[1]
    scaled = room.scaled[name].copy()
    scaled[40:90, 60:150] = 0
    first = first_round(**(room.arguments(name) | {"scaled": scaled}))
    second = room.second(name, scaled=scaled, first=first.depth_map)
    for result, given in ((first, room.shrunk(name, scaled)), (second, scaled)):
        assert np.isfinite(result.depth).all()
        assert np.array_equal(result.depth == 0, given == 0)
        assert not result.confidence[given == 0].any()
    assert np.median(room.error(name, second.depth)[scaled > 0]) < 0.02


def test_without_neighbours_the_scaled_prior_stays_and_is_flagged(room):
    name = room.scene.names[0]
    arguments = room.arguments(name) | {"sources": []}
    first = first_round(**arguments)
    second = second_round(**arguments, first=first.depth_map, source_depths=[])
    assert np.array_equal(first.depth, room.shrunk(name, room.scaled[name]))
    assert np.array_equal(second.depth, room.scaled[name])
    for result in (first, second):
        assert result.record["flags"] == ["no_sources"]
        assert result.record["kept_prior"]
        assert not result.confidence.any()


def test_one_neighbour_is_enough(room):
    name = room.scene.names[0]
    arguments = room.arguments(name)
    one = select_sources(room.scene, room.scene[name], 1)
    arguments["sources"] = [room.photos[one[0]]]
    first = first_round(**arguments)
    second = second_round(
        **arguments, first=first.depth_map, source_depths=[room.first[one[0]].depth_map]
    )
    assert second.record["held_out"] is None
    assert room.error(name, second.depth).mean() < room.error(name, room.scaled[name]).mean()


def test_gradient_steps_without_a_renderer_are_refused(room):
    settings = SETTINGS.model_copy(update={"iterations": 2})
    with pytest.raises(ValueError, match="renderer"):
        room.second(room.scene.names[0], settings=settings)
