"""Triangles in homogeneous pixel coordinates, in tensor operations: the twin of `kernels.geometry`.

Every sum and product stands in the order of the kernels, so that where a device has float64 the
same pixels are covered, to the bit. Devices without it (Apple's) compute in float32, each triangle
from an origin of its own next to it: pixel coordinates of a thousand would leave too few digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refdepth.precision import widest_float
from refdepth.render.kernels.geometry import (
    ACROSS_MARGIN,
    ACROSS_SLACK,
    BOX_MARGIN,
    FLAT,
    SLACK,
)

FLAT_FLOAT32 = 1e-6
"""As `FLAT`, for float32 positions relative to the triangle's own origin."""
SLACK_FLOAT32 = 1e-5
"""As `SLACK`."""
BOX_MARGIN_FLOAT32 = 0.01
"""As `BOX_MARGIN`."""

Tensor = torch.Tensor
Three = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corners:
    """Homogeneous pixel coordinates of the corners of N triangles, (N,) each."""

    x: Three
    y: Three
    w: Three

    @classmethod
    def of(cls, q: Tensor, triangles: Tensor, view: Tensor, index: Tensor) -> Corners:
        """Those of the triangles with an `index` (N,) among `triangles` (T, 3), over the vertices
        `q` (B, V, 3) of a `view` (N,), as exact as the device allows."""
        vertices = triangles.long()[index] + (view * q.shape[1])[:, None]
        found = q.reshape(-1, 3)[vertices].to(widest_float(q.device))
        x, y, w = (_three(axis) for axis in found.unbind(-1))
        return cls(x=x, y=y, w=w)

    def from_pixel(self, column: Tensor, row: Tensor) -> Corners:
        """The same from origins `column`, `row` (N,) of the triangles.

        Before the camera an origin is taken off x / w, which neighbours share, and next to it that
        is exact: they see their common corners at one place.
        """
        ahead = self._ahead()

        def moved(values: Three, origin: Tensor) -> Three:
            a, b, c = (
                torch.where(ahead, (value / w - origin) * w, value - origin * w)
                for value, w in zip(values, self.w, strict=True)
            )
            return a, b, c

        return Corners(x=moved(self.x, column), y=moved(self.y, row), w=self.w)

    def boxes(self, height: int, width: int) -> Boxes:
        """The pixels that each can cover (`pixel_box`)."""
        w0, w1, w2 = self.w
        total = sum((*self.x, *self.y, *self.w), torch.zeros_like(w0))
        finite = total.isfinite()
        ahead = finite & self._ahead()
        across = finite & ((w0 > 0) | (w1 > 0) | (w2 > 0)) & ~ahead
        left, columns = _extent(self.x, self.w, ahead, across, width)
        top, rows = _extent(self.y, self.w, ahead, across, height)
        return Boxes(left=left, top=top, columns=columns, rows=rows)

    def planes(self) -> tuple[Three, Three, Three, Tensor]:
        """The planes a, b, c over the picture of each triangle (`geometry.planes`), and the least
        that they may be where it covers a pixel (N,): inf for one without area."""
        (x0, x1, x2), (y0, y1, y2), (w0, w1, w2) = self.x, self.y, self.w
        a = y1 * w2 - w1 * y2, w1 * x2 - x1 * w2, x1 * y2 - y1 * x2
        b = y2 * w0 - w2 * y0, w2 * x0 - x2 * w0, x2 * y0 - y2 * x0
        c = y0 * w1 - w0 * y1, w0 * x1 - x0 * w1, x0 * y1 - y0 * x1
        det = x0 * a[0] + y0 * a[1] + w0 * a[2]
        scale = _largest(self.x) * _largest(self.y) * _largest(self.w)
        inverse = 1.0 / det
        a, b, c = (_scaled(plane, inverse) for plane in (a, b, c))
        flat, slack = (FLAT, SLACK) if det.dtype == torch.float64 else (FLAT_FLOAT32, SLACK_FLOAT32)
        total = a[0] + a[1] + a[2] + b[0] + b[1] + b[2] + c[0] + c[1] + c[2]
        drawn = (det.abs() > flat * scale) & total.isfinite()
        least = -slack * (a[2].abs() + b[2].abs() + c[2].abs())
        return a, b, c, torch.where(drawn, least, torch.inf)

    def weights(self) -> Three:
        """Perspective-correct weights of the corners at the origin; 0 where there are none."""
        (x0, x1, x2), (y0, y1, y2) = self.x, self.y
        areas = x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1
        total = areas[0] + areas[1] + areas[2]
        usable = (total != 0) & total.isfinite()
        inverse = torch.where(usable, 1.0 / total, 0)
        a, b, c = (torch.where(usable, area * inverse, 0) for area in areas)
        return a, b, c

    def _ahead(self) -> Tensor:
        """Which triangles lie wholly before the camera (N,)."""
        w0, w1, w2 = self.w
        return (w0 > 0) & (w1 > 0) & (w2 > 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """The pixels that N triangles can cover, (N,) each, int64."""

    left: Tensor
    top: Tensor
    columns: Tensor
    """How many pixels wide it is; 0 where it is empty."""
    rows: Tensor

    @property
    def pixels(self) -> Tensor:
        """How many pixels it holds (N,)."""
        return self.columns * self.rows


def _extent(
    along: Three, w: Three, ahead: Tensor, across: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels, along one axis of the picture, of triangles `ahead` of the
    camera (N,) and of those `across` its plane (`pixel_box`); else none."""
    margin = BOX_MARGIN if w[0].dtype == torch.float64 else BOX_MARGIN_FLOAT32
    a, b, c = (value * (1.0 / depth) for value, depth in zip(along, w, strict=True))
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    farthest = torch.where(across, ACROSS_MARGIN, margin)
    low_across, high_across = _across((a, b, c), w)
    low, high = torch.where(across, low_across, low), torch.where(across, high_across, high)
    first = (low - 0.5 - farthest).clamp_min(0).ceil()
    last = (high - 0.5 + farthest).clamp_max(size - 1).floor()
    # What is not a number (w near zero) fails the comparison.
    some = (ahead | across) & (first <= last)
    count = torch.where(some, last - first + 1, 0)
    return torch.where(some, first, 0).long(), count.long()


def _across(along: Three, w: Three) -> tuple[Tensor, Tensor]:
    """The ends, along one axis, of triangles across the camera plane, their vertices at `along`
    (N,): `kernels.geometry._extent_across`."""
    low, high = torch.full_like(w[0], torch.inf), torch.full_like(w[0], -torch.inf)
    for place, here in zip(along, w, strict=True):
        front = here > 0
        low = torch.where(front, torch.minimum(low, place), low)
        high = torch.where(front, torch.maximum(high, place), high)
        for other, there in zip(along, w, strict=True):
            leaves = front & ~(there > 0)
            slack = ACROSS_MARGIN + ACROSS_SLACK * (place.abs() + other.abs())
            low = torch.where(leaves & ~(place > other + slack), -torch.inf, low)
            high = torch.where(leaves & ~(place < other - slack), torch.inf, high)
    return low, high


def _three(values: Tensor) -> Three:
    """The corners' `values` (N, 3), each for itself (N,)."""
    a, b, c = values.unbind(-1)
    return a, b, c


def _largest(values: Three) -> Tensor:
    a, b, c = values
    return torch.maximum(torch.maximum(a.abs(), b.abs()), c.abs())


def _scaled(plane: Three, factor: Tensor) -> Three:
    x, y, rest = plane
    return x * factor, y * factor, rest * factor
