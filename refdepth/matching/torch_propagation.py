"""The solver and the opinions of `propagation` in tensor operations: on any device, the same on
every run, and nothing waits for it.

Operations are few, since at a solver's sizes a device spends its time on starting them. A sweep
reads the four neighbours of half the pixels as one strided view.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional

from refdepth.matching.laplacian import laplacian
from refdepth.matching.propagation_kernels import WIDEST
from refdepth.matching.replay import Replayed
from refdepth.precision import widest_float

Tensor = torch.Tensor

CYCLES = 32
"""Iterations of a solve. Gradient steps need some 20."""
STIFF = 10.0
"""Smoothness from which on a solve takes `STIFF_CYCLES`: corrections need 15 to 35, and 60 where
few pixels are sure; evidence pooled over whole surfaces, which weak links separate, 45 to 95."""
STIFF_CYCLES = 96
TOLERANCE = 1e-4
"""Relative residual at which a solve is done."""


class TensorGridSystem:
    """`GridSystem` of tensors: diag(w) + Laplacian(wx, wy) on a picture grid, with its coarser
    versions. It holds the room that a solve works in, so it does one at a time."""

    def __init__(self, w: Tensor, wx: Tensor, wy: Tensor) -> None:
        """`w` (H, W) weights the data, `wx` (H, W-1) and `wy` (H-1, W) the links between
        neighbours; all of one type, the widest of their device.

        Levels shrink until both sides are short: the number of iterations is fixed, and those of a
        long strip would not do.
        """
        self._shape = w.shape
        data, right, down = (
            _even(w),
            _even(functional.pad(wx, (0, 1))),
            _even(functional.pad(wy, (0, 0, 0, 1))),
        )
        self._levels = [_Level(data, right, down)]
        height, width = w.shape
        while max(height, width) >= 3:
            height, width = (height + 1) // 2, (width + 1) // 2
            # Blocks of constants make the coarse problem too stiff by about two (Braess 1995).
            data = _even(data[::2] + data[1::2], dims=1)
            data = _even(data[:, ::2] + data[:, 1::2])
            right = _even(0.5 * (right[::2, 1::2] + right[1::2, 1::2]))
            down = _even(0.5 * (down[1::2, ::2] + down[1::2, 1::2]))
            self._levels.append(_Level(data, right, down))

    def solve(self, rhs: Tensor, start: Tensor | None = None, *, cycles: int = CYCLES) -> Tensor:
        """x with operator x = rhs (H, W), by conjugate gradients preconditioned with one multigrid
        cycle: as it is at a relative residual of `TOLERANCE`, or after `cycles` iterations.

        The device is not asked whether it is done: iterations that come after that, or after the
        numbers broke down, change nothing.
        """
        finest = self._levels[0]
        residual, z = finest.rhs, finest.v.inner
        direction = _Room(finest.rhs)
        x = torch.zeros_like(residual) if start is None else _even(start)
        residual.copy_(_even(rhs))
        tiny = torch.finfo(rhs.dtype).tiny
        goal = TOLERANCE**2 * residual.square().sum().clamp_min(tiny)
        if start is not None:
            direction.inner.copy_(x)
            residual.sub_(finest.times(direction))
        active = torch.ones_like(goal, dtype=torch.bool)
        rho = torch.ones_like(goal)
        for iteration in range(cycles):
            active = active & (residual.square().sum() > goal)
            self._cycle()
            previous, rho = rho, (residual * z).sum()
            if iteration:
                direction.inner.mul_(rho / previous).add_(z)
            else:
                direction.inner.copy_(z)
            image = finest.times(direction)
            bend = (direction.inner * image).sum()
            active = active & (bend > 0)
            step = rho / bend
            x = torch.where(active, torch.addcmul(x, direction.inner, step), x)
            less = torch.addcmul(residual, image, step, value=-1)
            torch.where(active, less, residual, out=residual)
        return x[: self._shape[0], : self._shape[1]]

    def _cycle(self) -> None:
        """One symmetric V cycle from zero, of red-black sweeps: the finest level's `v` from its
        `rhs`. What a step leaves to be overwritten is never computed."""
        for level, coarser in pairwise(self._levels):
            level.first_sweep()
            level.restrict(coarser)
        self._levels[-1].first_sweep()
        self._levels[-1].last_sweep()
        for coarser, level in pairwise(reversed(self._levels)):
            level.prolong(coarser)
            level.last_sweep()


class _Room:
    """A picture in a border of zeros, with the neighbours of each pixel as a view: up and right,
    left and down."""

    def __init__(self, like: Tensor) -> None:
        height, width = like.shape
        padded = like.new_zeros((height + 2, width + 2))
        pitch = width + 2
        self.inner = padded[1:-1, 1:-1]
        self.near = padded.as_strided((2, 2, height, width), (pitch - 1, pitch + 1, pitch, 1), 1)
        self.colours = [_of_colour(self.inner, colour) for colour in (0, 1)]
        self.near_colours = [_of_colour(self.near, colour) for colour in (0, 1)]


class _Level:
    """The operator at one resolution (H, W), of even sides, and what a cycle keeps there.

    Pixels have two colours, as on a chessboard. Those beyond the picture have weights of 0, and
    stay 0.
    """

    def __init__(self, data: Tensor, right: Tensor, down: Tensor) -> None:
        up, left = functional.pad(down, (0, 0, 1, -1)), functional.pad(right, (1, -1))
        self._links = torch.stack([up, right, left, down]).unflatten(0, (2, 2))
        self._diagonal = data + self._links.sum(dim=(0, 1))
        inverse = torch.where(self._diagonal > 0, 1 / self._diagonal, 0)
        self._inverse = inverse
        self._links_colours = [_of_colour(self._links, colour) for colour in (0, 1)]
        self._inverse_colours = [_of_colour(inverse, colour) for colour in (0, 1)]
        self.rhs = torch.zeros_like(data)
        self.v, self._change = _Room(data), _Room(data)

    def times(self, room: _Room) -> Tensor:
        """The operator applied to a picture (H, W)."""
        return (self._diagonal * room.inner).sub_((self._links * room.near).sum(dim=(0, 1)))

    def first_sweep(self) -> None:
        """From zero: each pixel for itself, then those of colour 1 for the others."""
        torch.mul(self.rhs, self._inverse, out=self.v.inner)
        self._add_neighbours(self.v, 1)

    def last_sweep(self) -> None:
        """Pixels of colour 0 for the others; from the first sweep on they are as they were."""
        self._add_neighbours(self.v, 0)

    def restrict(self, coarser: _Level) -> None:
        """Fills the next level's `rhs`: the residual summed over blocks of 2x2. After a sweep from
        zero pixels of colour 1 have none, and of the others' remains what neighbours brought."""
        brought = self._links_colours[0] * self.v.near_colours[0]
        height, width = brought.shape[-2:]
        torch.sum(brought, dim=(0, 1, 2), out=coarser.rhs[:height, :width])

    def prolong(self, coarser: _Level) -> None:
        """Adds the next level's `v` to blocks of 2x2, then solves pixels of colour 1 for that.
        The others' part in it is left out: the last sweep replaces it."""
        block = self._change.colours[0]
        block.copy_(coarser.v.inner[: block.shape[1], : block.shape[2]].expand_as(block))
        self._add_neighbours(self._change, 1)

    def _add_neighbours(self, room: _Room, colour: int) -> None:
        """Adds to `v`, where of that colour, what the neighbours in `room` bring."""
        brought = (self._links_colours[colour] * room.near_colours[colour]).sum(dim=(0, 1))
        self.v.colours[colour].addcmul_(brought, self._inverse_colours[colour])


def _solve(
    w: Tensor, wx: Tensor, wy: Tensor, rhs: Tensor, start: Tensor | None, *, cycles: int
) -> Tensor:
    return TensorGridSystem(w, wx, wy).solve(rhs, start, cycles=cycles)


_replayed = Replayed(_solve)


def solve(
    w: Tensor,
    wx: Tensor,
    wy: Tensor,
    rhs: Tensor,
    start: Tensor | None = None,
    *,
    cycles: int = CYCLES,
) -> Tensor:
    """`TensorGridSystem(w, wx, wy).solve(rhs, start, cycles=cycles)`, on CUDA as one recorded
    graph."""
    return _replayed(w, wx, wy, rhs, start, cycles=cycles)


def propagate(
    values: Tensor,
    weights: Tensor,
    link_x: Tensor,
    link_y: Tensor,
    *,
    smoothness: float,
    outlier: float,
    anchor: float,
    rounds: int,
    sure: float = 0.0,
    start: Tensor | None = None,
    twicing: bool = False,
) -> Tensor:
    """`propagation.propagate`: the map (H, W) that stays near the opinions `values` (L, H, W) where
    their `weights` are high and is smooth elsewhere."""
    wide = widest_float(values.device)
    wx, wy = smoothness * link_x.to(wide), smoothness * link_y.to(wide)
    cycles = CYCLES if smoothness < STIFF else STIFF_CYCLES
    x = None if start is None else start.to(wide)
    for number in range(rounds + twicing):
        data, rhs = _gather(values, weights, x, 1 / outlier**2, sure)
        if x is not None and number == rounds:
            rhs += laplacian(wx, wy, x)
        x = solve(data + anchor, wx, wy, rhs, x, cycles=cycles)
    assert x is not None
    return x.to(torch.float32)


def _gather(
    values: Tensor, weights: Tensor, x: Tensor | None, sharpness: float, sure: float
) -> tuple[Tensor, Tensor]:
    """Weight and weighted sum (H, W) of the opinions (L, H, W), faded with their distance from `x`
    where that is given: `propagation_kernels.gather`. One opinion at a time: they are many."""
    data = torch.zeros(values.shape[1:], dtype=widest_float(values.device), device=values.device)
    rhs = torch.zeros_like(data)
    for value, weight in zip(values.to(data.dtype), weights.to(data.dtype), strict=True):
        if x is not None:
            width = (sure / weight.clamp_min(1e-9)).clamp(1, WIDEST)
            weight = weight / (1 + sharpness * ((x - value) / width).square())
        data += weight
        rhs.addcmul_(weight, value)
    return data, rhs


def _even(picture: Tensor, dims: int = 2) -> Tensor:
    """`picture` (H, W) with zeros up to even sides; only to an even height where `dims` is 1."""
    height, width = picture.shape
    return functional.pad(picture, (0, width % 2 if dims == 2 else 0, 0, height % 2))


def _of_colour(pictures: Tensor, colour: int) -> Tensor:
    """The pixels of one colour of pictures (..., H, W) of even sides, as a view (..., 2, H/2, W/2):
    one in each row of a block of 2x2."""
    *lead, height, width = pictures.shape
    *strides, down, across = pictures.stride()
    return pictures.as_strided(
        (*lead, 2, height // 2, width // 2),
        (*strides, down + (across, -across)[colour], 2 * down, 2 * across),
        pictures.storage_offset() + colour * across,
    )
