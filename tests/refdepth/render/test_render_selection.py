import logging

import pytest

from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.render import select_renderer, selection


@pytest.fixture
def machine(monkeypatch):
    def pretend(*, cuda: bool, nvdiffrast: bool) -> None:
        monkeypatch.setattr(selection, "cuda_available", lambda: cuda)
        monkeypatch.setattr(selection, "nvdiffrast_installed", lambda: nvdiffrast)

    return pretend


@pytest.mark.parametrize(("name", "device"), [("cpu", "auto"), ("cpu", "cpu"), ("auto", "cpu")])
def test_the_cpu_renderer_is_taken_when_asked_for(machine, name, device):
    machine(cuda=True, nvdiffrast=True)
    renderer = select_renderer(name, device)
    assert (renderer.name, renderer.device.type) == ("cpu", "cpu")


def test_auto_without_cuda_is_the_cpu(machine):
    machine(cuda=False, nvdiffrast=False)
    assert select_renderer().name == "cpu"


def test_auto_with_cuda_but_no_nvdiffrast_says_how_to_get_it(machine, caplog):
    machine(cuda=True, nvdiffrast=False)
    with caplog.at_level(logging.INFO):
        assert select_renderer().name == "cpu"
    assert "pip install" in caplog.text


@pytest.mark.parametrize(("name", "device"), [("nvdiffrast", "auto"), ("auto", "cuda")])
def test_what_was_asked_for_is_not_replaced(machine, name, device):
    machine(cuda=True, nvdiffrast=False)
    with pytest.raises(UnavailableError, match="pip install"):
        select_renderer(name, device)
    machine(cuda=False, nvdiffrast=True)
    with pytest.raises(UnavailableError, match="CUDA"):
        select_renderer(name, device)


@pytest.mark.parametrize(
    ("name", "device"),
    [("cpu", "cuda"), ("nvdiffrast", "cpu"), ("opengl", "auto"), ("cpu", "tpu")],
)
def test_contradictions_and_unknown_names_are_refused(name, device):
    with pytest.raises(ConfigurationError):
        select_renderer(name, device)
