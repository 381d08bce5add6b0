"""Which renderer to use on this machine."""

from __future__ import annotations

import importlib.util
import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from refdepth import devices
from refdepth.devices import DeviceName, select_device
from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.render.interface import Renderer

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class RendererName(StrEnum):
    """Which renderer refines."""

    AUTO = "auto"
    CPU = "cpu"
    NVDIFFRAST = "nvdiffrast"
    TORCH = "torch"


NVDIFFRAST_HELP = (
    "With torch and a CUDA toolkit present, run: pip install --no-build-isolation "
    "git+https://github.com/NVlabs/nvdiffrast (its licence allows research and evaluation). "
    "Or choose another renderer: torch runs on any GPU, cpu does all that nvdiffrast does."
)


def select_renderer(
    name: RendererName | str = RendererName.AUTO,
    device: DeviceName | str = DeviceName.AUTO,
    *,
    gradients: bool = False,
) -> Renderer:
    """The renderer called `name`, on `device`; one that gives `gradients` where they are needed,
    which the published method does.

    `auto` takes nvdiffrast where `device` allows it and it works; with CUDA but without it, or with
    device `mps`, the torch renderer, or the CPU's where gradients are needed and `device` allows
    that; else the CPU's. It logs what keeps an nvdiffrast from being taken. The CPU renderer goes
    with every device: networks can use CUDA all the same. Raises `ConfigurationError` for an
    unknown name or a contradiction, `UnavailableError` when what was asked for by name cannot be
    had.
    """
    _check_names(name, device, gradients)
    if name == "cpu" or (name == "auto" and device == "cpu"):
        return _cpu()
    if name == "torch":
        return _torch(select_device(device))
    if name == "nvdiffrast":
        return nvdiffrast_renderer()
    chosen = select_device(device)
    if chosen.type == "cpu":
        return _cpu()
    if chosen.type == "mps":
        return _cpu() if gradients else _torch(chosen)
    try:
        return nvdiffrast_renderer()
    except UnavailableError as error:
        if gradients and device == "cuda":
            raise
        level = logging.WARNING if gradients or nvdiffrast_installed() else logging.INFO
        instead = "on the CPU" if gradients else "with torch"
        logger.log(level, "CUDA found, but rendering %s. %s", instead, error)
    return _cpu() if gradients else _torch(chosen)


def _check_names(name: str, device: str, gradients: bool) -> None:
    """Raises `ConfigurationError` for what can be had on no machine."""
    if name not in tuple(RendererName):
        raise ConfigurationError(
            "unknown renderer.",
            subject=repr(name),
            action=f"Use one of {', '.join(RendererName)}.",
        )
    if device not in tuple(DeviceName):
        raise ConfigurationError(
            "unknown device.", subject=repr(device), action=f"Use one of {', '.join(DeviceName)}."
        )
    if name == "nvdiffrast" and device in ("cpu", "mps"):
        raise ConfigurationError(
            "the nvdiffrast renderer runs on CUDA only.",
            subject=f"device {device}",
            action="Leave the device at auto or choose another renderer.",
        )
    if name == "torch" and gradients:
        raise ConfigurationError(
            "gives no gradients, and the published method (paper) steps along them.",
            subject="renderer torch",
            action="Choose the cpu renderer or nvdiffrast, or another quality.",
        )


def nvdiffrast_renderer() -> Renderer:
    """The renderer for CUDA, ready to draw. Raises `UnavailableError` with the cause."""
    if not devices.cuda_available():
        raise UnavailableError(
            "no CUDA device was found.",
            subject="nvdiffrast",
            action="Use the cpu renderer, or install a torch with CUDA on a machine with a GPU.",
        )
    if not nvdiffrast_installed():
        raise UnavailableError("not installed.", subject="nvdiffrast", action=NVDIFFRAST_HELP)
    try:
        from refdepth.render.nvdiffrast import NvdiffrastRenderer

        return NvdiffrastRenderer()
    except Exception as error:
        # Whatever a library built for another torch, toolkit or GPU may raise.
        raise UnavailableError(
            f"it is installed but does not work here: {type(error).__name__}: {error}.",
            subject="nvdiffrast",
            action=NVDIFFRAST_HELP,
        ) from error


def nvdiffrast_installed() -> bool:
    """Whether nvdiffrast can be imported."""
    return importlib.util.find_spec("nvdiffrast") is not None


def _cpu() -> Renderer:
    from refdepth.render.cpu import CpuRenderer

    return CpuRenderer()


def _torch(device: torch.device) -> Renderer:
    from refdepth.render.torch_renderer import TorchRenderer

    return TorchRenderer(device)
