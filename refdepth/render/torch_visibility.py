"""Which triangle each pixel sees, in tensor operations: the twin of `kernels.visibility`.

Every triangle is tried at every pixel of its box. These candidates stand in one row, triangle by
triangle, and are worked off in stretches of equal length, so that small triangles and large ones
cost what their boxes hold, and memory has a bound. How long the row is has to be read back: the one
time that drawing waits for its device. Maxima and minima come to the same in every order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refdepth.render.torch_planes import Boxes, Corners

BLOCK = 1 << 18
"""Triangles, counted in every view, whose boxes and planes are kept at a time: about 50 MB."""
CANDIDATES = 1 << 20
"""Candidates that are tried at a time: about 200 MB."""
LAST_ID = torch.iinfo(torch.int32).max

Tensor = torch.Tensor


def draw(q: Tensor, triangles: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Ids (index + 1, 0 = none, int32) and depth (B, H, W) of the nearest of `triangles` (T, 3)
    over the vertices `q` (B, V, 3) at each pixel."""
    shape = (len(q), height, width)
    pixels = len(q) * height * width
    # The place behind the last pixel takes what is not seen.
    nearest = q.new_zeros(pixels + 1)
    ids = torch.zeros(pixels + 1, dtype=torch.int32, device=q.device)
    blocks = [
        _Block(q=q, triangles=triangles, first=first, size=(height, width))
        for first in range(0, len(q) * len(triangles), BLOCK)
    ]
    lengths = (
        torch.stack([block.boxes().pixels.sum() for block in blocks]).tolist() if blocks else []
    )
    for block, length in zip(blocks, lengths, strict=True):
        if length:
            _Candidates.of(block).draw(length, nearest, ids)
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
        """Enters all, `length` in number, into 1 / w and the ids of the pixels (B * H * W + 1,)."""
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
        that does not cover it, and the triangle's index."""
        at = torch.searchsorted(self.ends, place, right=True)
        start, columns, left, top, view, index, *origin = self.table.index_select(0, at).unbind(1)
        ax, ay, az, bx, by, bz, cx, cy, cz, least = self.planes.index_select(0, at).unbind(1)
        row = torch.div(place - start, columns, rounding_mode="floor")
        column = left + (place - start) - row * columns
        row = top + row
        px, py = (
            (where - from_pixel).to(least.dtype) + 0.5
            for where, from_pixel in zip((column, row), origin, strict=True)
        )
        a, b, c = ax * px + (ay * py + az), bx * px + (by * py + bz), cx * px + (cy * py + cz)
        near = (a + b + c).to(kind)
        covered = (a >= least) & (b >= least) & (c >= least) & (near > 0)
        height, width = self.size
        return (view * height + row) * width + column, torch.where(covered, near, 0), index
