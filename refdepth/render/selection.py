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
    "git+https://github.com/NVlabs/nvdiffrast (its licence allows research and evaluation)."
)


def select_renderer(
    name: RendererName | str = RendererName.AUTO, device: DeviceName | str = DeviceName.AUTO
) -> Renderer:
    """The renderer called `name`, on `device`.

    `auto` takes nvdiffrast where CUDA and nvdiffrast are there and `device` allows it, else the
    CPU renderer; with CUDA but without nvdiffrast it logs how to get it. Raises
    `ConfigurationError` for an unknown name or a contradiction, `UnavailableError` when what was
    asked for by name is missing.
    """
    if name not in ("auto", "cpu", "nvdiffrast"):
        raise ConfigurationError(
            "unknown renderer.", subject=repr(name), action="Use auto, cpu or nvdiffrast."
        )
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(
            "unknown device.", subject=repr(device), action="Use auto, cpu or cuda."
        )
    if (name, device) in (("cpu", "cuda"), ("nvdiffrast", "cpu")):
        needed = "the CPU" if name == "cpu" else "CUDA"
        raise ConfigurationError(
            f"the {name} renderer runs on {needed} only.",
            subject=f"device {device}",
            action="Leave the device at auto or choose the other renderer.",
        )

    wants_cuda = name == "nvdiffrast" or device == "cuda"
    if not wants_cuda and (name == "cpu" or device == "cpu" or not cuda_available()):
        return _cpu()
    if not cuda_available():
        raise UnavailableError(
            "no CUDA device was found.",
            subject=f"renderer {name}, device {device}",
            action="Use the cpu renderer, or install a torch with CUDA on a machine with a GPU.",
        )
    if not nvdiffrast_installed():
        if wants_cuda:
            raise UnavailableError("not installed.", subject="nvdiffrast", action=NVDIFFRAST_HELP)
        logger.info("CUDA found but not nvdiffrast: rendering on the CPU. %s", NVDIFFRAST_HELP)
        return _cpu()

    try:
        from refdepth.render.nvdiffrast import NvdiffrastRenderer
    except ImportError as error:
        # Built for another torch, or the compiled part is missing.
        if wants_cuda:
            raise UnavailableError(
                f"it is installed but cannot be loaded: {error}.",
                subject="nvdiffrast",
                action=NVDIFFRAST_HELP,
            ) from error
        logger.warning("nvdiffrast cannot be loaded (%s): rendering on the CPU.", error)
        return _cpu()
    return NvdiffrastRenderer()


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
