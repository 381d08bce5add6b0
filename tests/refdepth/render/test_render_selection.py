import importlib.machinery
import logging
import sys
import types

import pytest
import torch

from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.render import select_renderer, selection


@pytest.fixture
def machine(monkeypatch):
    def pretend(*, cuda: bool, nvdiffrast: bool) -> None:
        monkeypatch.setattr(selection, "cuda_available", lambda: cuda)
        monkeypatch.setattr(selection, "nvdiffrast_installed", lambda: nvdiffrast)

    return pretend


@pytest.fixture
def installed(monkeypatch):
    """Makes a machine with CUDA whose nvdiffrast has the given context class; without one,
    nvdiffrast.torch cannot be imported."""

    def pretend(context=None) -> None:
        monkeypatch.setattr(selection, "cuda_available", lambda: True)
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


@pytest.mark.parametrize(
    ("name", "device"), [("cpu", "auto"), ("cpu", "cpu"), ("auto", "cpu"), ("cpu", "cuda")]
)
def test_the_cpu_renderer_is_taken_when_asked_for(machine, name, device):
    """Also where networks are to use CUDA."""
    machine(cuda=True, nvdiffrast=True)
    renderer = select_renderer(name, device)
    assert (renderer.name, renderer.device.type) == ("cpu", "cpu")


def test_auto_without_cuda_is_the_cpu(machine, caplog):
    machine(cuda=False, nvdiffrast=False)
    assert select_renderer().name == "cpu"
    assert not caplog.records


def test_auto_with_cuda_but_no_nvdiffrast_says_how_to_get_it(machine, caplog):
    machine(cuda=True, nvdiffrast=False)
    with caplog.at_level(logging.INFO):
        assert select_renderer().name == "cpu"
    assert "pip install" in caplog.text


@pytest.mark.parametrize(
    ("context", "cause"),
    [(None, "nvdiffrast.torch"), (unfit, "no kernel image"), (without_its_library, "libnvrtc")],
)
def test_auto_takes_the_cpu_where_nvdiffrast_does_not_work(installed, caplog, context, cause):
    installed(context)
    assert select_renderer().name == "cpu"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert cause in record.getMessage()
    assert "pip install" in record.getMessage()


@pytest.mark.parametrize(("name", "device"), [("nvdiffrast", "auto"), ("auto", "cuda")])
def test_what_was_asked_for_is_not_replaced(machine, name, device):
    machine(cuda=True, nvdiffrast=False)
    with pytest.raises(UnavailableError, match="pip install"):
        select_renderer(name, device)
    machine(cuda=False, nvdiffrast=True)
    with pytest.raises(UnavailableError, match="CUDA"):
        select_renderer(name, device)


@pytest.mark.parametrize(("name", "device"), [("nvdiffrast", "auto"), ("auto", "cuda")])
@pytest.mark.parametrize(
    ("context", "cause"),
    [(None, "nvdiffrast.torch"), (unfit, "no kernel image"), (without_its_library, "libnvrtc")],
)
def test_the_cause_is_named_where_what_was_asked_for_does_not_work(
    installed, name, device, context, cause
):
    installed(context)
    with pytest.raises(UnavailableError, match=cause):
        select_renderer(name, device)


def test_an_nvdiffrast_that_works_is_taken(installed):
    installed(lambda device: object())
    assert select_renderer().name == "nvdiffrast"


@pytest.mark.parametrize(
    ("name", "device"),
    [("nvdiffrast", "cpu"), ("opengl", "auto"), ("cpu", "tpu")],
)
def test_contradictions_and_unknown_names_are_refused(name, device):
    with pytest.raises(ConfigurationError):
        select_renderer(name, device)
