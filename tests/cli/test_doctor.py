import sys
import tomllib
import types
from pathlib import Path

import numba
import pytest
import torch

from refdepth import compilation, kernel_cache, threads
from refdepth.cli.diagnosis import EXTRAS, diagnose, print_diagnosis
from refdepth.errors import UnavailableError
from refdepth.priors.checkpoints import AUTO_MODEL
from refdepth.render import selection

ROOT = Path(__file__).parents[2]


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
    assert diagnosis.uses["renderer"] == "torch (cpu for paper)"
    assert not diagnosis.broken


def test_an_apple_gpu_is_told_though_auto_does_not_take_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert diagnose().uses["device"] == "cpu (with --device mps the Apple GPU)"


def test_a_driver_that_fails_is_told(gpu_machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", gpu_machine)
    assert "no kernel image" in diagnose().uses["renderer"]


def test_what_compiled_loops_run_on_is_told(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(numba.config.NUMBA_NUM_THREADS))
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    monkeypatch.setattr(compilation, "uncompiled", lambda: compilation.known_kernels()[:3])
    uses = diagnose().uses
    known = len(compilation.known_kernels())
    assert uses["threads"] == str(threads.threading())
    assert uses["compiled loops"] == f"{known - 3} of {known} in {kernel_cache.kernels_folder()}"
    assert "OMP_PROC_BIND=false" in uses["environment"]
    assert "NUMBA_NUM_THREADS=" in uses["environment"]


def test_a_threading_layer_that_is_not_there_and_code_that_is_not_kept_are_told(
    monkeypatch, capsys
):
    def missing():
        raise UnavailableError(
            "No threading layer could be loaded.", subject="NUMBA_THREADING_LAYER"
        )

    monkeypatch.setattr(threads, "threading", missing)
    monkeypatch.setattr(kernel_cache, "kernels_folder", lambda: None)
    print_diagnosis(diagnose())
    said = capsys.readouterr().out
    assert "NUMBA_THREADING_LAYER: No threading layer" in said
    assert "set NUMBA_CACHE_DIR" in said


def test_the_networks_that_are_here_are_told_with_their_licences(monkeypatch):
    here = {"apple/DepthPro-hf"}
    monkeypatch.setattr(
        "refdepth.cli.diagnosis.cached_checkpoint",
        lambda model: object() if model in here else None,
    )
    uses = diagnose().uses
    assert uses["other networks"] == "apple/DepthPro-hf (apple-amlr: for research)"
    assert f"{AUTO_MODEL} (Apache-2.0) is not in the local cache" in uses["depth model"]
    assert f"hf download {AUTO_MODEL}" in uses["depth model"]
    here.add(AUTO_MODEL)
    assert diagnose().uses["depth model"] == f"{AUTO_MODEL} (Apache-2.0)"


def test_every_extra_that_people_install_is_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"dev"}
    remedies = [remedy for _, _, remedy in EXTRAS.values()]
    assert {f"pip install 'refdepth[{name}]'" for name in extras} == set(remedies)
