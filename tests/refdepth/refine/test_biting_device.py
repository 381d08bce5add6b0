"""The whole default refinement on a device that bites: nothing is mixed, NumPy sees nothing, and
where the host waits for the device is known."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace

import biting_device
import numpy as np
import pytest
import torch
from biting_device import DEVICE, biting
from fake_nvdiffrast import emulated_renderer

from refdepth import precision
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching import torch_propagation
from refdepth.matching.neighbours import select_sources
from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scale
from refdepth.priors.sweep import SweepPrior, SweepSettings
from refdepth.refine.refined_view import RefinedView
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import CloserSettings, RefineSettings
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.synthetic import make_scene
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage, Scene

CPU = torch.device("cpu")
MOST_WAITS = 5
"""In a round of a view; nvdiffrast waits by itself besides."""
FIRST = Counter({"refine/rounds.py first_round": 1})
SECOND = Counter(
    {
        # How many pixels are smeared: of what was found, and of what is taken over of it.
        "refine/torch_edges.py move_to_a_side": 2,
        "refine/rounds.py second_round": 1,
    }
)
STEPS = Counter({"refine/mesh/schedule.py Steps.fetch": 1})
COUNTED = Counter({"render/torch_visibility.py _lengths": 1})
"""By the torch renderer, for all steps."""


@dataclass
class Room:
    scene: Scene
    photos: dict[str, PosedImage]
    truth: dict[str, np.ndarray]
    scaled: dict[str, np.ndarray]

    def views(self, settings: RefineSettings) -> dict[str, WorkingView]:
        return {name: WorkingView.of(photo, **settings.grid) for name, photo in self.photos.items()}

    def arguments(self, name: str, settings: RefineSettings, views: dict[str, WorkingView]) -> dict:
        return {
            "ref": views[name],
            "sources": [views[other] for other in self.sources(name, settings)],
            "scaled": self.scaled[name],
            "sparse": self.scene.sparse_depth(self.scene[name]),
            "settings": settings,
        }

    def sources(self, name: str, settings: RefineSettings) -> list[str]:
        return select_sources(self.scene, self.scene[name], settings.sources)

    def found(self, name: str, settings: RefineSettings) -> DepthMap:
        """What a first round may find."""
        depth = self.views(settings)[name].grid.shrink_depth(self.truth[name])
        return DepthMap(depth=depth, confidence=np.full_like(depth, 0.7))


@pytest.fixture(autouse=True)
def few_cycles(monkeypatch):
    """Of the solver: one is like the other."""
    monkeypatch.setattr(torch_propagation, "CYCLES", 4)
    monkeypatch.setattr(torch_propagation, "STIFF_CYCLES", 4)
    defaults = torch_propagation.TensorGridSystem.solve.__kwdefaults__
    monkeypatch.setitem(defaults, "cycles", 4)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    synthetic = make_scene("room", seed=1, views=4, width=80, height=60)
    scene = synthetic.to_scene(tmp_path_factory.mktemp("room"))
    room = Room(scene, {}, {}, {})
    for index, name in enumerate(scene.names):
        prior = synthetic.simulated_prior(index, error="smooth")
        fit = fit_scale(prior, scene.sparse_depth(scene[name]), ScaleSettings())
        room.photos[name] = load_photo(scene[name])
        room.truth[name] = synthetic.views[index].depth
        room.scaled[name] = apply_fit(prior, fit)
    return room


def masked(room: Room) -> Room:
    photos = {}
    for name, photo in room.photos.items():
        mask = np.ones(photo.camera.shape, bool)
        mask[20:40, 30:55] = False
        photos[name] = replace(photo, mask=mask)
    return replace(room, photos=photos)


def far_off(room: Room) -> Room:
    wrong = {name: np.median(depth) ** 2 / depth for name, depth in room.truth.items()}
    return replace(room, scaled={name: d.astype(np.float32) for name, d in wrong.items()})


def with_sky(room: Room) -> Room:
    scaled = {name: depth.copy() for name, depth in room.scaled.items()}
    for depth in scaled.values():
        depth[:12] = np.inf
    return replace(room, scaled=scaled)


def both_rounds(
    room: Room, settings: RefineSettings, device: torch.device, renderer=TorchRenderer, **more
) -> tuple[list[RefinedView], list[biting_device.Watch]]:
    """A view's rounds, and what happened in each on a device that bites."""
    views, name = room.views(settings), room.scene.names[1]
    arguments = {**room.arguments(name, settings, views), **more, "device": device}
    found, watches = [], []
    for second in (False, True):
        if second:
            arguments |= {
                "first": found[0].depth_map,
                "source_depths": [room.found(n, settings) for n in room.sources(name, settings)],
                "onlookers": [views[room.scene.names[0]]],
                "onlooker_depths": [room.found(room.scene.names[0], settings)],
                "renderer": renderer(device) if settings.gradient_steps else None,
            }
        with biting() if device == DEVICE else nullcontext() as watch:
            found.append((second_round if second else first_round)(**arguments))
        watches.append(watch)
    return found, watches


def same_but_for_time(one: dict, other: dict) -> bool:
    def rest(record: dict) -> dict:
        fine = {**record.get("fine", {}), "seconds": 0, "device": ""}
        return {**record, "seconds": 0, "fine": fine}

    return rest(one) == rest(other)


FAST, BALANCED, HIGH = (RefineSettings.preset(quality) for quality in ("fast", "balanced", "high"))
CLOSER = FAST.model_copy(update={"working_pixels": 1024, "closer": CloserSettings(max_pixels=1200)})
CASES = {
    "fast": (FAST, lambda room: room, 0.0, SECOND),
    "balanced": (BALANCED, lambda room: room, 0.0, SECOND + STEPS + COUNTED),
    "high": (HIGH, lambda room: room, 0.0, SECOND + STEPS + COUNTED),
    "masks": (BALANCED, masked, 0.0, SECOND + STEPS + COUNTED),
    "far off": (BALANCED, far_off, 0.5, SECOND + STEPS + COUNTED),
    "sky": (FAST, with_sky, 0.0, SECOND),
    "closer": (CLOSER, masked, 0.0, SECOND),
}


@pytest.mark.parametrize("case", CASES)
def test_the_default_refinement_waits_where_it_has_to_and_finds_the_same(room, case):
    settings, changed, error, second_waits = CASES[case]
    room = changed(room)
    found, watches = both_rounds(room, settings, DEVICE, prior_error=error)
    plain, _ = both_rounds(room, settings, CPU, prior_error=error)
    for waits, watch in zip((FIRST, second_waits), watches, strict=True):
        assert watch.waits == waits, watch.text()
        assert watch.waits.total() <= MOST_WAITS
        assert watch.operations
        assert not any("mesh/gauss_newton.py" in place for place in watch.uploads), watch.text()
    for ours, theirs in zip(found, plain, strict=True):
        assert np.array_equal(ours.depth, theirs.depth)
        assert np.array_equal(ours.confidence, theirs.confidence)
        assert same_but_for_time(ours.record, theirs.record)
    assert np.array_equal(found[1].trust.order, plain[1].trust.order)
    assert np.array_equal(found[1].trust.chance, plain[1].trust.chance)


@pytest.mark.parametrize("settings", [BALANCED, HIGH], ids=["balanced", "high"])
def test_nvdiffrasts_way_waits_no_more_often_and_finds_nearly_the_same(room, settings):
    """But for nvdiffrast itself, which does whenever it rasterizes."""
    found, watches = both_rounds(
        room, settings, DEVICE, renderer=emulated_renderer, prior_error=0.0
    )
    plain, _ = both_rounds(room, settings, CPU, prior_error=0.0)
    waits = watches[1].waits
    steps = settings.iterations
    assert waits.pop("render/nvdiffrast.py NvdiffrastRenderer._tile") == steps, watches[1].text()
    assert waits == SECOND + STEPS, watches[1].text()
    assert waits.total() <= MOST_WAITS
    assert found[1].record["fine"]["renderer"] == "nvdiffrast"
    assert np.abs(np.log(found[1].depth / plain[1].depth)).mean() < 5e-4


def test_the_published_method_waits_for_no_step(room):
    settings = RefineSettings.preset("paper")
    paper = settings.paper.model_copy(update={"iterations": 4})
    settings = settings.model_copy(update={"paper": paper})
    found, watches = both_rounds(room, settings, DEVICE, renderer=emulated_renderer)
    assert not watches[0].waits
    waits = watches[1].waits
    assert waits.pop("render/nvdiffrast.py NvdiffrastRenderer._tile") >= 4
    assert waits == {
        "refine/mesh/surface.py anchor_points": 1,
        "refine/mesh/surface.py rendered_change": 2,
        "refine/mesh/schedule.py Steps.fetch": 1,
        "refine/rounds.py second_round": 1,
    }, watches[1].text()
    assert np.isfinite(found[1].depth).all()


def test_a_photo_is_put_on_the_device_once_for_all_views_that_look_at_it(room):
    views = room.views(FAST)
    with biting() as watch:
        for name in room.scene.names[:2]:
            first_round(**room.arguments(name, FAST, views), prior_error=0.0, device=DEVICE)
    uploads = {place: n for place, n in watch.uploads.items() if "working_view" in place}
    assert sum(uploads.values()) == 2 * len(room.scene.names)  # its grey levels and its mask


def test_an_error_that_nobody_gave_is_measured_at_the_cost_of_one_wait(room):
    name = room.scene.names[0]
    with biting() as watch:
        first_round(**room.arguments(name, FAST, room.views(FAST)), device=DEVICE)
    assert watch.waits == FIRST + Counter({"refine/wide.py measured_error": 1})


def test_a_sweep_waits_once(room):
    view = room.scene.views[1]
    settings = SweepSettings(planes=32, sources=3)
    with biting() as watch:
        ours = SweepPrior(settings, device=DEVICE).estimate(view, room.scene)
    assert watch.waits == {"priors/sweep.py SweepPrior._sweep": 1}, watch.text()
    theirs = SweepPrior(settings, device=CPU).estimate(view, room.scene)
    assert np.array_equal(ours.values, theirs.values)
    assert np.array_equal(ours.confidence, theirs.confidence)


def test_a_device_without_float64_is_given_none(room, monkeypatch):
    """Apple's."""
    made = biting_device.on_device

    def narrow(numbers: torch.Tensor) -> torch.Tensor:
        assert numbers.dtype != torch.float64
        return made(numbers)

    def widest_float(device):
        import torch

        return torch.float32

    # In place, since modules hold the function itself.
    monkeypatch.setattr(precision.widest_float, "__code__", widest_float.__code__)
    monkeypatch.setattr(biting_device, "on_device", narrow)
    settings = BALANCED.model_copy(update={"iterations": 2})
    found, _ = both_rounds(far_off(room), settings, DEVICE, prior_error=0.5)
    for view in found:
        assert np.isfinite(view.depth).all()
    with biting():
        prior = SweepPrior(SweepSettings(planes=8), device=DEVICE)
        assert np.isfinite(prior.estimate(room.scene.views[0], room.scene).values).all()
