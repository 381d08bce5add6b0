import sys
import types

import pytest
import torch

from refdepth.cli.diagnosis import diagnose
from refdepth.render import selection


@pytest.fixture
def gpu_machine(monkeypatch):
    """A machine that says it has CUDA and nvdiffrast, whose driver or build may refuse."""

    def refuse(*_):
        raise RuntimeError("no kernel image is available for execution on the device")

    backend = types.ModuleType("refdepth.render.nvdiffrast")
    backend.NvdiffrastRenderer = refuse
    monkeypatch.setitem(sys.modules, "refdepth.render.nvdiffrast", backend)
    monkeypatch.setattr(selection, "nvdiffrast_installed", lambda: True)
    monkeypatch.setattr("refdepth.cli.diagnosis.nvdiffrast_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "some GPU")
    return refuse


def test_an_nvdiffrast_that_does_not_fit_the_gpu_is_told_with_its_cause(gpu_machine):
    diagnosis = diagnose()
    (check,) = [check for check in diagnosis.checks if check.name == "nvdiffrast"]
    assert not check.ok
    assert "no kernel image" in check.found
    assert "pip install" in check.remedy
    assert diagnosis.uses["renderer"] == "cpu"
    assert not diagnosis.broken


def test_a_driver_that_fails_is_told(gpu_machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", gpu_machine)
    assert "no kernel image" in diagnose().uses["renderer"]
