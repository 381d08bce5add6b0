"""Which triangle each pixel sees, in tensor operations: the twin of `kernels.visibility`.

Every triangle is tried at every pixel of its box. These candidates stand in one row, triangle by
triangle, and are worked off in stretches of equal length, so that small triangles and large ones
cost what their boxes hold, and memory has a bound. How long the row is has to be read back: the one
time that drawing waits for its device. Maxima and minima come to the same in every order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refdepth.render.torch_planes import Boxes, Corners, Three

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

    block: _Block
    boxes: Boxes
    ends: Tensor
    """Where each triangle's candidates end (N,)."""
    origin: tuple[Tensor, Tensor]
    """Pixel column and row that the planes count from (N,)."""
    planes: tuple[Three, Three, Three]
    least: Tensor
    """See `Corners.planes`."""

    @classmethod
    def of(cls, block: _Block) -> _Candidates:
        corners = block.corners()
        boxes = corners.boxes(*block.size)
        origin = torch.zeros_like(boxes.left), torch.zeros_like(boxes.top)
        if corners.w[0].dtype != torch.float64:
            origin = boxes.left, boxes.top
            corners = corners.from_pixel(*origin)
        a, b, c, least = corners.planes()
        ends = boxes.pixels.cumsum(0)
        return cls(
            block=block, boxes=boxes, ends=ends, origin=origin, planes=(a, b, c), least=least
        )

    def draw(self, length: int, nearest: Tensor, ids: Tensor) -> None:
        """Enters all, `length` in number, into 1 / w and the ids of the pixels (B * H * W + 1,)."""
        for first in range(0, length, CANDIDATES):
            last = min(first + CANDIDATES, length)
            place = torch.arange(first, last, device=self.ends.device)
            at = torch.searchsorted(self.ends, place, right=True)
            pixel, near = self._look(place, at, nearest)
            before = nearest[pixel]
            nearest.scatter_reduce_(0, pixel, near, "amax")
            # Earlier candidates are of earlier triangles: they keep what is as near.
            wins = (near > before) & (near == nearest[pixel])
            pixel = torch.where(wins, pixel, len(nearest) - 1)
            ids.scatter_(0, pixel, LAST_ID)
            _, index = self.block.numbers()
            ids.scatter_reduce_(0, pixel, index[at].int() + 1, "amin")

    def _look(self, place: Tensor, at: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
        """The pixel of each candidate `place` (M,) of the triangles `at` (M,), the last of all
        where it does not cover it, and 1 / w there, 0 where it does not."""
        boxes, (height, width) = self.boxes, self.block.size
        columns = boxes.columns[at]
        offset = place - self.ends[at] + boxes.pixels[at]
        row = torch.div(offset, columns, rounding_mode="floor")
        column = boxes.left[at] + offset - row * columns
        row = boxes.top[at] + row
        view, _ = self.block.numbers()
        pixel = (view[at] * height + row) * width + column
        kind = self.least.dtype
        px = (column - self.origin[0][at]).to(kind) + 0.5
        py = (row - self.origin[1][at]).to(kind) + 0.5
        a, b, c = (x[at] * px + (y[at] * py + rest[at]) for x, y, rest in self.planes)
        least = self.least[at]
        near = (a + b + c).to(nearest.dtype)
        covered = (a >= least) & (b >= least) & (c >= least) & (near > 0)
        return torch.where(covered, pixel, len(nearest) - 1), torch.where(covered, near, 0)
