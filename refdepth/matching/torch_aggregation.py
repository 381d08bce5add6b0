"""The loops of `aggregation` in tensor operations: on any device, and nothing waits for it.

A step moves all lines on by a pixel, rows and columns, in both directions: the number of operations
depends on the longer side of the picture alone.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from refdepth.device_memory import in_smaller_pieces

Tensor = torch.Tensor

CHUNK_BYTES = 640 * 2**20
"""Memory for the lines that are walked together."""


def aggregate(
    volume: Tensor,
    link_x: Tensor,
    link_y: Tensor,
    small: float,
    large: float,
    *,
    chunk_bytes: int | None = None,
) -> Tensor:
    """The path costs of four directions through `volume` (H, W, D), summed (H, W, D).

    `small` is the penalty of a change by one hypothesis, `large` that of any other change, scaled
    by how strongly neighbouring pixels are linked: `link_x` (H, W-1), `link_y` (H-1, W) in [0, 1].
    Lines are walked in as many parts as it takes to need about `chunk_bytes` beside the result.
    """
    if chunk_bytes is None:
        chunk_bytes = in_smaller_pieces(CHUNK_BYTES)
    height, width, steps = volume.shape
    length = max(height, width)
    # Of a jump between each pixel and the one before; what is before the first never counts.
    jump_x = (large * functional.pad(link_x, (1, 1))).clamp_(min=small)[..., None]
    jump_y = (large * functional.pad(link_y, (0, 0, 1, 1))).clamp_(min=small)[..., None]
    total = torch.zeros_like(volume)
    needed = 8 * length * (height + width) * (steps + 1)
    parts = min(-(-needed // chunk_bytes), length)
    for part in range(parts):
        rows, columns = (
            slice(count * part // parts, count * (part + 1) // parts) for count in (height, width)
        )
        _add_paths(volume, jump_x, jump_y, rows, columns, small, total)
    return total


def pick_minimum(total: Tensor) -> Tensor:
    """The best hypothesis of each pixel of `total` (H, W, D), sub-step by a parabola (H, W)."""
    last = total.shape[2] - 1
    best = total.argmin(dim=2, keepdim=True)
    below, lowest, above = (
        total.gather(2, (best + step).clamp_(0, last))[..., 0] for step in (-1, 0, 1)
    )
    best = best[..., 0]
    bend = below + above - 2 * lowest
    bent = (best > 0) & (best < last) & (bend > 1e-9)
    offset = torch.where(bent, (below - above) / (2 * bend), 0)
    return best + offset.clamp_(-0.5, 0.5)


def _add_paths(
    volume: Tensor,
    jump_x: Tensor,
    jump_y: Tensor,
    rows: slice,
    columns: slice,
    small: float,
    total: Tensor,
) -> None:
    """Adds to `total` (H, W, D) the path costs along some `rows` and some `columns`."""
    height, width, _ = volume.shape
    length = max(height, width)
    costs = volume[rows], volume[:, columns]
    paths = _both_ways(costs, costs, length)
    forth = jump_x[rows, :-1], jump_y[:-1, columns]
    back = jump_x[rows, 1:], jump_y[1:, columns]
    _walk(paths, _both_ways(forth, back, length), small)
    for along_rows, along_columns in _places(paths, height, width, rows.stop - rows.start):
        total[rows] += along_rows
        total[:, columns] += along_columns


def _both_ways(forth: tuple[Tensor, Tensor], back: tuple[Tensor, Tensor], length: int) -> Tensor:
    """Rows (R, W, K) and columns (H, C, K), as they are on the way forth and on the way back, as
    lines of `length` side by side (2, length, R + C, K); 0 where a line is shorter.

    Lines end together on the way back, so that those who walk them start together both ways.
    """
    rows, columns = forth
    lines = rows.shape[0] + columns.shape[1]
    out = rows.new_zeros((2, length, lines, rows.shape[2]))
    places = _places(out, columns.shape[0], rows.shape[1], rows.shape[0])
    for way, place in zip((forth, back), places, strict=True):
        for part, there in zip(way, place, strict=True):
            there.copy_(part)
    return out


def _places(lines: Tensor, height: int, width: int, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Where `_both_ways` puts rows (R, W, K) and columns (H, C, K), each way: views of `lines`."""
    forth, back = lines
    return [
        (forth[:width, :rows].transpose(0, 1), forth[:height, rows:]),
        (back[-width:, :rows].transpose(0, 1), back[-height:, rows:]),
    ]


def _walk(paths: Tensor, jumps: Tensor, small: float) -> None:
    """Makes costs (2, N, L, D) those of the paths that lead there (Hirschmueller 2008, eq. 13),
    with the penalties `jumps` (2, N, L, 1)."""
    _, length, lines, steps = paths.shape
    # What the cheapest path costs is taken off all: they stay small, and no jump has to know it.
    before = paths.new_full((2, lines, steps + 2), torch.inf)
    inner = before[..., 1:-1]
    inner.zero_()
    for i in range(length):
        here = _at_step(paths, i)
        value = torch.minimum(before[..., :-2], before[..., 2:]).add_(small)
        torch.minimum(value, inner, out=value)
        torch.minimum(value, _at_step(jumps, i), out=value)
        here.add_(value)
        torch.sub(here, here.amin(dim=2, keepdim=True), out=inner)


def _at_step(paths: Tensor, i: int) -> Tensor:
    """Where step `i` of both ways is (2, L, K), as a view: the one goes up while the other goes
    down."""
    _, length, lines, steps = paths.shape
    slab = lines * steps
    strides = ((2 * (length - i) - 1) * slab, steps, 1)
    return paths.as_strided((2, lines, steps), strides, i * slab)
