"""Both rounds in tensor operations against those in compiled loops, on a small room."""

import numpy as np
import pytest
import torch

from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import select_sources
from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scale
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import RefineSettings
from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.synthetic import make_scene

SETTINGS = RefineSettings(sources=4)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """First and second rounds of a view, by loops and by tensors, and its exact depth."""
    synthetic = make_scene("room", seed=1, views=5, width=160, height=120)
    scene = synthetic.to_scene(tmp_path_factory.mktemp("room"))
    views, scaled = {}, {}
    for index, name in enumerate(scene.names):
        prior = synthetic.simulated_prior(index, error="objectwise")
        fit = fit_scale(prior, scene.sparse_depth(scene[name]), ScaleSettings())
        views[name] = WorkingView.of(load_photo(scene[name]), **SETTINGS.grid)
        scaled[name] = apply_fit(prior, fit)

    def arguments(name):
        return {
            "ref": views[name],
            "sources": [views[n] for n in select_sources(scene, scene[name], SETTINGS.sources)],
            "scaled": scaled[name],
            "sparse": scene.sparse_depth(scene[name]),
            "settings": SETTINGS,
            "prior_error": 0.0,
        }

    name = scene.names[2]
    rounds = []
    for device, renderer in ((None, CpuRenderer()), (CPU, TorchRenderer(CPU))):
        first = {n: first_round(**arguments(n), device=device) for n in scene.names}
        second = second_round(
            **arguments(name),
            first=first[name].depth_map,
            source_depths=[
                first[n].depth_map for n in select_sources(scene, scene[name], SETTINGS.sources)
            ],
            renderer=renderer,
            device=device,
        )
        rounds.append((first[name], second))
    return rounds, synthetic.views[2].depth


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_loops_and_tensors_find_the_same_depth(both, which):
    (loops, tensors), _ = both
    apart = np.abs(np.log(tensors[which].depth / loops[which].depth))
    assert np.median(apart) < 2e-5
    assert (apart < 1e-4).mean() > 0.995
    assert (apart < 1e-3).mean() > 0.999


def test_loops_and_tensors_are_as_sure_and_as_right(both):
    (loops, tensors), truth = both
    apart = np.abs(tensors[1].trust.order - loops[1].trust.order)
    assert np.median(apart) < 1e-4
    errors = [np.abs(second.depth / truth - 1) for _, second in (loops, tensors)]
    assert np.mean(errors[1]) == pytest.approx(np.mean(errors[0]), rel=0.01)
    assert np.median(errors[1]) == pytest.approx(np.median(errors[0]), rel=0.01)
    assert tensors[1].record["accepted_share"] == pytest.approx(
        loops[1].record["accepted_share"], abs=0.01
    )
