"""Which floating-point numbers a device has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has none (Apple's)."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64
