"""Triangles as planes over the picture, in tensor operations: the twin of `kernels.geometry`.

Every sum and product stands in the order of the kernels, so that where a device has float64 the
same pixels are covered, to the bit. Devices without it (Apple's) compute in float32, each triangle
from an origin of its own next to it: pixel coordinates of a thousand would leave too few digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refdepth.render.kernels.geometry import BOX_MARGIN, FLAT, SLACK

FLAT_FLOAT32 = 1e-6
"""As `FLAT`, of float32 positions relative to the triangle's own origin."""
SLACK_FLOAT32 = 1e-4
"""As `SLACK`: neighbours with origins of their own see a shared corner this far apart."""
BOX_MARGIN_FLOAT32 = 0.01
"""As `BOX_MARGIN`."""
TOWARDS = 1e-12
"""A direction less than this part of what it is the difference of may point either way."""


def position_type(device: torch.device) -> torch.dtype:
    """The most exact floating-point type that `device` has."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True, kw_only=True, eq=False)
class Corners:
    """Homogeneous pixel coordinates of the corners of T triangles in B views: (B, T) each."""

    x: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    y: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    w: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, q: torch.Tensor, triangles: torch.Tensor) -> Corners:
        """The corners of `triangles` (T, 3) among vertices `q` (B, V, 3), as exact as the device
        allows."""
        exact = q.to(position_type(q.device)).movedim(-1, 0)
        x, y, w = (exact[..., corner].unbind() for corner in triangles.long().unbind(-1))
        return cls(*zip(x, y, w, strict=True))
