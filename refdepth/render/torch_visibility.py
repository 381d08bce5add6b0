"""Which triangle each pixel sees, in tensor operations: the twin of `kernels.visibility`.

Every triangle is tried at every pixel of its box. These candidates stand in one row, triangle by
triangle, and are worked off in stretches of equal length, so that small triangles and large ones
cost what their boxes hold, and memory has a bound. How long the row is has to be read back: the one
time that drawing waits for its device. Of pictures that show nearly the same only the first waits
(`Allowance`). Maxima and minima come to the same in every order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from refdepth.render.torch_planes import Boxes, Corners

BLOCK = 1 << 18
"""Triangles, counted in every view, whose boxes and planes are kept at a time: about 50 MB."""
CANDIDATES = 1 << 20
"""Candidates that are tried at a time: about 200 MB."""
MARGIN = 1 / 8
"""How many more candidates than the first of similar pictures a later one may have, as a share."""
LAST_ID = torch.iinfo(torch.int32).max

Tensor = torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Allowance:
    """How many candidates pictures may have that nobody asks their device about.

    The first picture of each shape is asked about; those after it may have `MARGIN` more. What one
    has beyond that is not drawn.
    """

    exceeded: Tensor
    """Whether any picture had more, of no dimension."""
    _lengths: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    @classmethod
    def on(cls, device: torch.device) -> Allowance:
        """Before the first picture."""
        return cls(exceeded=torch.zeros((), dtype=torch.bool, device=device))

    def lengths(self, shape: tuple[int, ...], blocks: list[_Block]) -> list[int]:
        """How many candidates of each block are tried, for a picture of this `shape`."""
        if shape not in self._lengths:
            self._lengths[shape] = [int(count * (1 + MARGIN)) for count in _lengths(blocks)]
        return self._lengths[shape]


def draw(
    q: Tensor, triangles: Tensor, height: int, width: int, allowance: Allowance | None = None
) -> tuple[Tensor, Tensor]:
    """Ids (index + 1, 0 = none, int32) and depth (B, H, W) of the nearest of `triangles` (T, 3)
    over the vertices `q` (B, V, 3) at each pixel; with an `allowance`, within that."""
    shape = (len(q), height, width)
    pixels = len(q) * height * width
    # The place behind the last pixel takes what is not seen.
    nearest = q.new_zeros(pixels + 1)
    ids = torch.zeros(pixels + 1, dtype=torch.int32, device=q.device)
    blocks = [
        _Block(q=q, triangles=triangles, first=first, size=(height, width))
        for first in range(0, len(q) * len(triangles), BLOCK)
    ]
    if allowance is None:
        lengths = _lengths(blocks)
    else:
        lengths = allowance.lengths((*shape, len(triangles)), blocks)
    for block, length in zip(blocks, lengths, strict=True):
        if length or allowance is not None:
            candidates = _Candidates.of(block)
            candidates.draw(length, nearest, ids)
            if allowance is not None:
                allowance.exceeded.logical_or_(candidates.ends[-1] > length)
    nearness = nearest[:-1].reshape(shape)
    return ids[:-1].reshape(shape), torch.where(nearness > 0, 1 / nearness, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Some triangles, all of the first view before those of the second."""

    q: Tensor
    triangles: Tensor
    first: int
    size: tuple[int, int]
    """Height and width of the pictures."""

    def numbers(self) -> tuple[Tensor, Tensor]:
        """View and index of each of its N triangles (N,)."""
        count = len(self.triangles)
        end = min(self.first + BLOCK, len(self.q) * count)
        number = torch.arange(self.first, end, device=self.q.device)
        view = torch.div(number, count, rounding_mode="floor")
        return view, number - view * count

    def corners(self) -> Corners:
        """Of its triangles."""
        return Corners.of(self.q, self.triangles, *self.numbers())

    def boxes(self) -> Boxes:
        """The pixels that its triangles can cover."""
        return self.corners().boxes(*self.size)


def _lengths(blocks: list[_Block]) -> list[int]:
    """How many candidates each block has; waits for the device."""
    if not blocks:
        return []
    found: list[int] = torch.stack([block.boxes().pixels.sum() for block in blocks]).tolist()
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidates:
    """What is tried of a block of N triangles."""

    size: tuple[int, int]
    """Height and width of the pictures."""
    ends: Tensor
    """Where each triangle's candidates end (N,)."""
    table: Tensor
    """Where they start, how many stand in a row of the box, the first one's column and row, the
    view, the triangle's index, and the pixel column and row that the planes count from (N, 8)."""
    planes: Tensor
    """`Corners.planes` (N, 10)."""

    @classmethod
    def of(cls, block: _Block) -> _Candidates:
        """All of them."""
        corners = block.corners()
        boxes = corners.boxes(*block.size)
        origin = torch.zeros_like(boxes.left), torch.zeros_like(boxes.top)
        if corners.w[0].dtype != torch.float64:
            origin = boxes.left, boxes.top
            corners = corners.from_pixel(*origin)
        a, b, c, least = corners.planes()
        ends = boxes.pixels.cumsum(0)
        view, index = block.numbers()
        starts = ends - boxes.pixels
        table = starts, boxes.columns, boxes.left, boxes.top, view, index, *origin
        return cls(
            size=block.size,
            ends=ends,
            table=torch.stack(table, dim=1),
            planes=torch.stack((*a, *b, *c, least), dim=1),
        )

    def draw(self, length: int, nearest: Tensor, ids: Tensor) -> None:
        """Enters the first `length`, or all if they are fewer, into 1 / w and the pixels' ids
        (B * H * W + 1,)."""
        nowhere = len(nearest) - 1
        for first in range(0, length, CANDIDATES):
            place = torch.arange(first, min(first + CANDIDATES, length), device=nearest.device)
            pixel, near, index = self._look(place, nearest.dtype)
            pixel = torch.where(near > 0, pixel, nowhere)
            before = nearest[pixel]
            nearest.scatter_reduce_(0, pixel, near, "amax")
            # Earlier candidates are of earlier triangles: they keep what is as near.
            wins = (near > before) & (near == nearest[pixel])
            pixel = torch.where(wins, pixel, nowhere)
            ids.scatter_(0, pixel, LAST_ID)
            ids.scatter_reduce_(0, pixel, index.int() + 1, "amin")

    def _look(self, place: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The pixel of each candidate `place` (M,), 1 / w of its triangle there as stored, 0 where
        that does not cover it or there is no such candidate, and the triangle's index."""
        at = torch.searchsorted(self.ends, place, right=True).clamp_max(len(self.ends) - 1)
        start, columns, left, top, view, index, *origin = self.table.index_select(0, at).unbind(1)
        ax, ay, az, bx, by, bz, cx, cy, cz, least = self.planes.index_select(0, at).unbind(1)
        # Behind the last candidate stands the last triangle, whose box may be empty.
        row = torch.div(place - start, columns.clamp_min(1), rounding_mode="floor")
        column = left + (place - start) - row * columns
        row = top + row
        px, py = (
            (where - from_pixel).to(least.dtype) + 0.5
            for where, from_pixel in zip((column, row), origin, strict=True)
        )
        a, b, c = ax * px + (ay * py + az), bx * px + (by * py + bz), cx * px + (cy * py + cz)
        near = (a + b + c).to(kind)
        covered = (a >= least) & (b >= least) & (c >= least) & (near > 0)
        covered &= place < self.ends[-1]
        height, width = self.size
        return (view * height + row) * width + column, torch.where(covered, near, 0), index
