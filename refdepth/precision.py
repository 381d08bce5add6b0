"""Floating-point numbers on devices: which there are, and sums of them that depend on no order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has none (Apple's)."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


class OrderlessSums:
    """Sums at many places, of numbers that a device adds in any order.

    They are sums of whole numbers, which come to the same in every order: 2^62 over the number of
    addends stands for the largest. Without float64 to make these of, they are of plain numbers.
    """

    def __init__(self, shape: tuple[int, ...], largest: torch.Tensor, *, count: int) -> None:
        """Zeros of `shape`; no addend exceeds `largest` (no dimension), and each place gets at most
        `count` of them."""
        import torch

        self.dtype = widest_float(largest.device)
        """Of addends and totals."""
        exact = self.dtype == torch.float64
        self._unit = largest.to(self.dtype).clamp_min(1e-300) / 2.0 ** (62 - count.bit_length())
        self._sums = torch.zeros(
            shape, dtype=torch.int64 if exact else self.dtype, device=largest.device
        )
        self._exact = exact

    def add(self, places: torch.Tensor, values: torch.Tensor) -> None:
        """Adds `values` (..., N) at the `places` (N,) of the last axis."""
        self._sums.index_add_(
            -1, places, (values / self._unit).round().long() if self._exact else values
        )

    @property
    def total(self) -> torch.Tensor:
        """The sums so far."""
        return self._sums * self._unit if self._exact else self._sums
