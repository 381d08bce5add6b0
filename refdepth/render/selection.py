"""Which renderer to use on this machine."""

from __future__ import annotations

import importlib.util
import logging
from enum import StrEnum

from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.render.interface import Renderer

logger = logging.getLogger(__name__)


class RendererName(StrEnum):
    """Which renderer refines."""

    AUTO = "auto"
    CPU = "cpu"
    NVDIFFRAST = "nvdiffrast"


class DeviceName(StrEnum):
    """Where networks and renderer run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


NVDIFFRAST_HELP = (
    "With torch and a CUDA toolkit present, run: pip install --no-build-isolation "
    "git+https://github.com/NVlabs/nvdiffrast (its licence allows research and evaluation). "
    "Or choose the cpu renderer: networks can use CUDA all the same."
)


def select_renderer(
    name: RendererName | str = RendererName.AUTO, device: DeviceName | str = DeviceName.AUTO
) -> Renderer:
    """The renderer called `name`, on `device`.

    `auto` takes nvdiffrast where `device` allows it and CUDA is there, else the CPU renderer; with
    CUDA but without an nvdiffrast that works it logs why and what to do. Device `cuda` asks for
    nvdiffrast unless the CPU renderer is named. Raises `ConfigurationError` for an unknown name or
    a contradiction, `UnavailableError` when what was asked for by name cannot be had.
    """
    if name not in ("auto", "cpu", "nvdiffrast"):
        raise ConfigurationError(
            "unknown renderer.", subject=repr(name), action="Use auto, cpu or nvdiffrast."
        )
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(
            "unknown device.", subject=repr(device), action="Use auto, cpu or cuda."
        )
    if (name, device) == ("nvdiffrast", "cpu"):
        raise ConfigurationError(
            "the nvdiffrast renderer runs on CUDA only.",
            subject=f"device {device}",
            action="Leave the device at auto or choose the cpu renderer.",
        )
    by_name = name == "nvdiffrast" or device == "cuda"
    if name == "cpu" or device == "cpu" or not (by_name or cuda_available()):
        return _cpu()
    try:
        return nvdiffrast_renderer()
    except UnavailableError as error:
        if by_name:
            raise
        logger.warning("CUDA found, but rendering on the CPU. %s", error)
        return _cpu()


def nvdiffrast_renderer() -> Renderer:
    """The renderer for CUDA, ready to draw. Raises `UnavailableError` with the cause."""
    if not cuda_available():
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


def cuda_available() -> bool:
    """Whether torch can use a CUDA device."""
    import torch

    return torch.cuda.is_available()


def nvdiffrast_installed() -> bool:
    """Whether nvdiffrast can be imported."""
    return importlib.util.find_spec("nvdiffrast") is not None


def _cpu() -> Renderer:
    from refdepth.render.cpu import CpuRenderer

    return CpuRenderer()
