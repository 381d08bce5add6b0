"""Devices that tensors can be on, by the names that people give them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from refdepth.errors import UnavailableError

if TYPE_CHECKING:
    import torch


class DeviceName(StrEnum):
    """Where networks and renderer run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    """An NVIDIA GPU, or an AMD one under a torch for ROCm."""
    MPS = "mps"
    """An Apple GPU; never chosen by `auto`."""


def select_device(device: DeviceName | str = DeviceName.AUTO) -> torch.device:
    """Where tensors go: `auto` is CUDA where it is there. Raises `UnavailableError` for a device
    that is not."""
    import torch

    if device == "auto":
        device = "cuda" if cuda_available() else "cpu"
    there = {"cpu": True, "cuda": cuda_available(), "mps": mps_available()}
    if not there[device]:
        action = "Use device cpu or auto, or install a torch with CUDA on a machine with a GPU."
        if device == "mps":
            action = "Use device cpu or auto; mps is for Macs with Apple silicon."
        raise UnavailableError(
            f"no {str(device).upper()} device was found.",
            subject=f"device {device}",
            action=action,
        )
    return torch.device(str(device))


def cuda_available() -> bool:
    """Whether torch can use a CUDA device."""
    import torch

    return torch.cuda.is_available()


def mps_available() -> bool:
    """Whether torch can use an Apple GPU."""
    import torch

    return torch.backends.mps.is_available()
