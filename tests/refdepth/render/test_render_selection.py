import importlib.machinery
import logging
import sys
import types

import pytest
import torch

from refdepth import devices
from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.render import select_renderer, selection


@pytest.fixture
def installed(monkeypatch):
    """Makes a machine with CUDA whose nvdiffrast has the given context class; without one,
    nvdiffrast.torch cannot be imported."""

    def pretend(context=None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.delitem(sys.modules, "refdepth.render.nvdiffrast", raising=False)
        package = types.ModuleType("nvdiffrast")
        package.__spec__ = importlib.machinery.ModuleSpec("nvdiffrast", loader=None)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "nvdiffrast", package)
        if context is not None:
            package.torch = types.ModuleType("nvdiffrast.torch")
            package.torch.RasterizeCudaContext = context
            monkeypatch.setitem(sys.modules, "nvdiffrast.torch", package.torch)

    yield pretend
    sys.modules.pop("refdepth.render.nvdiffrast", None)  # it holds on to the stub


def unfit(device):
    raise RuntimeError("no kernel image is available for execution on the device")


def without_its_library(device):
    raise OSError("libnvrtc.so: cannot open shared object file")


@pytest.fixture
def machine(monkeypatch, installed):
    def pretend(kind: str) -> None:
        if kind == "nvdiffrast":
            installed(lambda device: object())
        elif kind == "broken":
            installed(unfit)
        else:
            monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "gpu")
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "apple")
            monkeypatch.setattr(selection, "nvdiffrast_installed", lambda: False)

    return pretend


MACHINES = ("cpu", "gpu", "nvdiffrast", "broken", "apple")
"""Without a GPU; with one and without nvdiffrast; with both; with an nvdiffrast that does not work;
with an Apple GPU."""
ALWAYS_CPU = ["cpu"] * 5
NVDIFFRAST = ["unavailable", "unavailable", "nvdiffrast on cuda", "unavailable", "unavailable"]
REFUSED = ["refused"] * 5
ON_CUDA = ["unavailable", *["torch on cuda"] * 3, "unavailable"]
ON_MPS = [*["unavailable"] * 4, "torch on mps"]
CHOICES = {
    ("auto", "auto"): ["cpu", "torch on cuda", "nvdiffrast on cuda", "torch on cuda", "cpu"],
    ("auto", "cpu"): ALWAYS_CPU,
    ("auto", "cuda"): [
        "unavailable",
        "torch on cuda",
        "nvdiffrast on cuda",
        "torch on cuda",
        "unavailable",
    ],
    ("auto", "mps"): ON_MPS,
    ("cpu", "auto"): ALWAYS_CPU,
    ("cpu", "cpu"): ALWAYS_CPU,
    ("cpu", "cuda"): ALWAYS_CPU,
    ("cpu", "mps"): ALWAYS_CPU,
    ("nvdiffrast", "auto"): NVDIFFRAST,
    ("nvdiffrast", "cpu"): REFUSED,
    ("nvdiffrast", "cuda"): NVDIFFRAST,
    ("nvdiffrast", "mps"): REFUSED,
    ("torch", "auto"): ["torch on cpu", *["torch on cuda"] * 3, "torch on cpu"],
    ("torch", "cpu"): ["torch on cpu"] * 5,
    ("torch", "cuda"): ON_CUDA,
    ("torch", "mps"): ON_MPS,
}
"""Renderer and device asked for, to what is got on each machine."""
WITH_GRADIENTS = {
    **CHOICES,
    ("auto", "auto"): ["cpu", "cpu", "nvdiffrast on cuda", "cpu", "cpu"],
    ("auto", "cuda"): NVDIFFRAST,
    ("auto", "mps"): [*["unavailable"] * 4, "cpu"],
    **{("torch", device): REFUSED for device in devices.DeviceName},
}
"""The same where gradients are needed."""


def got(*asked, **options) -> str:
    try:
        renderer = select_renderer(*asked, **options)
    except ConfigurationError:
        return "refused"
    except UnavailableError:
        return "unavailable"
    assert renderer.differentiable or not options.get("gradients")
    kind = renderer.device.type
    return kind if renderer.name == kind else f"{renderer.name} on {kind}"


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("gradients", [False, True])
def test_every_combination_is_got_or_refused(machine, kind, gradients):
    machine(kind)
    table = WITH_GRADIENTS if gradients else CHOICES
    assert len(table) == len(selection.RendererName) * len(devices.DeviceName)
    expected = {asked: row[MACHINES.index(kind)] for asked, row in table.items()}
    assert {asked: got(*asked, gradients=gradients) for asked in table} == expected


def test_auto_without_cuda_says_nothing(machine, caplog):
    machine("cpu")
    assert select_renderer().name == "cpu"
    assert not caplog.records


@pytest.mark.parametrize(("gradients", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_auto_with_cuda_but_no_nvdiffrast_says_how_to_get_it(machine, caplog, gradients, level):
    machine("gpu")
    with caplog.at_level(logging.INFO):
        select_renderer(gradients=gradients)
    (record,) = caplog.records
    assert record.levelno == level
    assert "pip install" in record.getMessage()


@pytest.mark.parametrize(
    ("context", "cause"),
    [(None, "nvdiffrast.torch"), (unfit, "no kernel image"), (without_its_library, "libnvrtc")],
)
def test_auto_does_without_an_nvdiffrast_that_does_not_work(installed, caplog, context, cause):
    installed(context)
    assert select_renderer().name == "torch"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert cause in record.getMessage()
    assert "pip install" in record.getMessage()


@pytest.mark.parametrize(
    ("context", "cause"),
    [(None, "nvdiffrast.torch"), (unfit, "no kernel image"), (without_its_library, "libnvrtc")],
)
def test_the_cause_is_named_where_what_was_asked_for_does_not_work(installed, context, cause):
    installed(context)
    with pytest.raises(UnavailableError, match=cause):
        select_renderer("nvdiffrast")
    with pytest.raises(UnavailableError, match=cause):
        select_renderer("auto", "cuda", gradients=True)


def test_reasons_say_what_to_do_next(machine):
    machine("gpu")
    with pytest.raises(UnavailableError, match="pip install"):
        select_renderer("nvdiffrast")
    with pytest.raises(ConfigurationError, match=r"paper.*cpu renderer or nvdiffrast"):
        select_renderer("torch", gradients=True)
    machine("cpu")
    with pytest.raises(UnavailableError, match=r"no CUDA device.*cpu or auto"):
        select_renderer("torch", "cuda")


@pytest.mark.parametrize(("name", "device"), [("opengl", "auto"), ("cpu", "tpu")])
def test_unknown_names_are_refused(name, device):
    with pytest.raises(ConfigurationError, match="unknown"):
        select_renderer(name, device)
