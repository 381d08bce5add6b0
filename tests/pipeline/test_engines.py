"""What becomes of a view whose device gives up in the middle of it."""

import numpy as np
import pytest
import torch
from biting_device import DEVICE, biting

from refdepth.device_memory import in_smaller_pieces
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching import torch_cost
from refdepth.matching.neighbours import select_sources
from refdepth.pipeline import engines
from refdepth.pipeline.config import build_config
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import RefineSettings
from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.synthetic import make_scene
from refdepth.types.depth_map import DepthMap

SETTINGS = RefineSettings(sources=3, iterations=6)
ON_DEVICE = {"device": DEVICE.type, "renderer": "torch"}
ON_CPU = {"device": "cpu", "renderer": "cpu"}
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors ...")
MISSING = NotImplementedError(
    "The operator 'aten::foo' is not implemented for this device.\nYou may"
)


class Room:
    def __init__(self, folder):
        synthetic = make_scene("room", seed=1, views=4, width=64, height=48)
        self.scene = synthetic.to_scene(folder)
        self.truth = {
            name: view.depth for name, view in zip(self.scene.names, synthetic.views, strict=True)
        }
        self.views = {
            name: WorkingView.of(load_photo(self.scene[name]), **SETTINGS.grid)
            for name in self.scene.names
        }

    def inputs(self, index: int) -> dict:
        name = self.scene.names[index]
        sources = select_sources(self.scene, self.scene[name], SETTINGS.sources)
        return {
            "ref": self.views[name],
            "sources": [self.views[other] for other in sources],
            "scaled": self.truth[name] * np.float32(1.04),
            "sparse": self.scene.sparse_depth(self.scene[name]),
            "settings": SETTINGS,
            "prior_error": 0.0,
        }

    def first(self, index: int):
        return lambda *, renderer, device: first_round(**self.inputs(index), device=device)

    def second(self, index: int, **more):
        def found(name):
            depth = self.views[name].grid.shrink_depth(self.truth[name])
            return DepthMap(depth=depth, confidence=np.full_like(depth, 0.7))

        name = self.scene.names[index]
        sources = select_sources(self.scene, self.scene[name], SETTINGS.sources)
        return lambda *, renderer, device: second_round(
            **self.inputs(index),
            first=found(name),
            source_depths=[found(other) for other in sources],
            renderer=renderer,
            device=device,
            **more,
        )


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    return Room(tmp_path_factory.mktemp("room"))


@pytest.fixture
def watch():
    with biting() as watch:
        yield watch


@pytest.fixture
def engine(watch, monkeypatch) -> engines.Engine:
    monkeypatch.setattr(engines, "chosen_renderer", lambda config: TorchRenderer(DEVICE))
    return engines.Engine(build_config(), renders=True)


@pytest.fixture
def failing(monkeypatch):
    """Makes the comparison of photos fail on the device as often as there are errors, and lists how
    large the pieces are that it is done in."""

    def begin(*errors: Exception) -> list[int]:
        waiting, pieces, compare = list(errors), [], torch_cost.cost_volume

        def cost_volume(*arguments, **options):
            pieces.append(in_smaller_pieces(1000))
            if waiting:
                raise waiting.pop(0)
            return compare(*arguments, **options)

        monkeypatch.setattr(torch_cost, "cost_volume", cost_volume)
        return pieces

    return begin


def test_a_view_that_runs_out_of_memory_is_done_in_smaller_pieces(room, engine, failing):
    expected, record = engine.run("a", room.first(0))
    assert record == ON_DEVICE
    pieces = failing(NO_MEMORY)
    found, record = engine.run("a", room.first(0))
    assert record == ON_DEVICE
    assert np.array_equal(found.depth, expected.depth)
    _, record = engine.run("b", room.first(1))
    assert record == ON_DEVICE
    assert pieces == [1000, 500, 1000]


def test_one_that_does_so_again_is_done_on_the_cpu_and_the_next_on_the_device(
    room, engine, failing, caplog
):
    pieces = failing(NO_MEMORY, RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"))
    found, record = engine.run("a.jpg", room.first(0))
    reason = record.pop("instead_of")
    assert record == ON_CPU
    assert reason.startswith(f"{DEVICE.type}: out of memory")
    assert "refine.working_pixels" in reason
    assert "a.jpg" in caplog.text
    expected = first_round(**room.inputs(0))
    assert np.array_equal(found.depth, expected.depth)
    assert np.array_equal(found.confidence, expected.confidence)
    assert engine.run("b.jpg", room.first(1))[1] == ON_DEVICE
    assert pieces == [1000, 500, 1000]


@pytest.mark.parametrize("error", [LOST, MISSING])
def test_a_device_that_fails_is_not_asked_again(room, engine, failing, monkeypatch, error):
    def refuse():
        raise RuntimeError("CUDA error: it is lost, whatever it is asked")

    monkeypatch.setattr(engines, "free_cached", refuse)
    pieces = failing(error)
    found, record = engine.run("a", room.first(0))
    assert record == {**ON_CPU, "instead_of": f"{DEVICE.type}: {str(error).splitlines()[0]}"}
    assert np.array_equal(found.depth, first_round(**room.inputs(0)).depth)
    later, record = engine.run("b", room.first(1))
    assert record == {**ON_CPU, "instead_of": f"{DEVICE.type}: {str(error).splitlines()[0]}"}
    assert np.array_equal(later.depth, first_round(**room.inputs(1)).depth)
    assert pieces == [1000]


def test_what_is_no_matter_of_the_device_ends_the_view(room, engine, failing):
    failing(ValueError("no depth"))
    with pytest.raises(ValueError, match="no depth"):
        engine.run("a", room.first(0))
    assert engine.run("a", room.first(0))[1] == ON_DEVICE


class Kept:
    """A checkpoint in memory."""

    state = None
    loaded = 0

    def load(self):
        self.loaded += self.state is not None
        return self.state

    def save(self, state):
        self.state = state


def test_steps_taken_before_a_device_gave_up_are_not_taken_again(room, engine, monkeypatch):
    drawn, draw = [], TorchRenderer.render

    def render(self, *arguments, **options):
        drawn.append(1)
        if len(drawn) >= 4:
            raise NO_MEMORY
        return draw(self, *arguments, **options)

    monkeypatch.setattr(TorchRenderer, "render", render)
    checkpoint, done = Kept(), []
    work = room.second(0, checkpoint=checkpoint, progress=lambda step, steps: done.append(step))
    found, record = engine.run("a", work)
    assert record["device"] == "cpu"
    assert record["instead_of"].startswith(f"{DEVICE.type}: out of memory")
    assert checkpoint.loaded == 2
    assert done == [1, 2, 3, 3, 4, 5, 6]
    monkeypatch.undo()
    expected = room.second(0)(renderer=CpuRenderer(), device=None)
    assert (np.abs(np.log(found.depth / expected.depth)) < 1e-3).mean() > 0.98


def test_what_renders_nothing_looks_for_no_renderer_on_a_cpu(monkeypatch):
    monkeypatch.setattr("refdepth.render.select_renderer", None)
    monkeypatch.setattr(engines, "gpus", list)
    found, made_on = engines.Engine(build_config()).run(
        "a", lambda *, renderer, device: (renderer, device)
    )
    assert found == (None, None)
    assert made_on == {"device": "cpu", "renderer": None}
