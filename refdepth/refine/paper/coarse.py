"""Coarse refinement: a small network bends the scaled prior towards the SfM points."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import torch
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.refine.paper.losses import point_loss, shape_loss
from refdepth.refine.paper.settings import CoarseSettings
from refdepth.types.scene import SparseDepth

logger = logging.getLogger(__name__)

POSITION_OCTAVES = 3
DEPTH_OCTAVES = 5
HIDDEN = 16
START_SPREAD = 1e-3
"""Spread of the last layer's first weights: the network starts out as the identity."""
LARGEST_FACTOR = 2.0
"""The network may not move a depth further than by this factor, wherever it extrapolates."""


@one_torch_thread()
def coarse_refine(
    scaled: NDArray[np.float32], sparse: SparseDepth, settings: CoarseSettings, seed: int
) -> NDArray[np.float32]:
    """Depth (H, W) after the paper's first stage; 0 (unknown) stays 0.

    z' = z |1 + s| + o, with (s, o) from a network of two hidden layers of 16 that sees image
    position (3 sine octaves) and depth (5), trained on the SfM points with the prior's depth
    gradients as regulariser. A share of the points is held out: unless their error falls, and
    with too few points, `scaled` is returned unchanged.
    """
    x, y = np.floor(sparse.xy).astype(np.int64).T if len(sparse) else np.zeros((2, 0), np.int64)
    height, width = scaled.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y, measured = x[inside], y[inside], sparse.depth[inside]
    known = scaled[y, x] > 0
    x, y, measured = x[known], y[known], measured[known]
    if len(measured) < settings.min_points or not settings.iterations:
        return scaled

    order = np.random.default_rng(seed).permutation(len(measured))
    held_out, train = np.split(order, [max(4, round(settings.held_out * len(order)))])
    unit = float(np.median(scaled[scaled > 0]))
    grid_y, grid_x = _sample_grid(height, width, settings.shape_samples)
    grid = scaled[np.ix_(grid_y, grid_x)]

    network = _Network(unit, height, width, seed)
    field_x, field_y = np.meshgrid(grid_x, grid_y)
    point_inputs = network.inputs(scaled[y[train], x[train]], x[train], y[train])
    grid_inputs = network.inputs(
        np.where(grid > 0, grid, unit).ravel(), field_x.ravel(), field_y.ravel()
    )
    _train(
        network,
        point_inputs,
        torch.from_numpy((measured[train] / unit).astype(np.float32)),
        grid_inputs,
        torch.from_numpy(grid > 0),
        settings,
    )

    def error(depth: NDArray[np.float32]) -> float:
        difference = np.abs(depth[y[held_out], x[held_out]] / measured[held_out] - 1)
        return float(np.minimum(difference, settings.huber).mean())

    bent = network.bend(scaled)
    before, after = error(scaled), error(bent)
    logger.debug("coarse stage: held-out error %.4f -> %.4f", before, after)
    return bent if after < before else scaled


def _sample_grid(
    height: int, width: int, samples: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    step = max(1.0, (height * width / samples) ** 0.5)
    return (
        np.arange(step / 2, height, step).astype(np.int64),
        np.arange(step / 2, width, step).astype(np.int64),
    )


class _Network:
    """(position, depth) -> (s, o). Depth inside is in units of `unit`."""

    def __init__(self, unit: float, height: int, width: int, seed: int) -> None:
        self.unit, self.height, self.width = unit, height, width
        generator = torch.Generator().manual_seed(seed)
        sizes = [2 * (2 * POSITION_OCTAVES + DEPTH_OCTAVES) + 3, HIDDEN, HIDDEN, 2]
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            spread = START_SPREAD if fan_out == 2 else fan_in**-0.5
            weight = torch.randn(fan_in, fan_out, generator=generator) * spread
            self.layers.append((weight.requires_grad_(), torch.zeros(fan_out, requires_grad=True)))

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [tensor for layer in self.layers for tensor in layer]

    def inputs(
        self,
        depth: NDArray[np.float32],
        x: NDArray[np.int64],
        y: NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Depth in units (N,) and the encoded position and depth (N, 25)."""
        z = torch.from_numpy((depth / self.unit).astype(np.float32))
        position = np.stack([(2 * x + 1) / self.width - 1, (2 * y + 1) / self.height - 1], axis=-1)
        place = torch.from_numpy(position.astype(np.float32))
        # z / (1 + z) keeps the far end in range whatever the depth's spread.
        depth_code = (2 * z / (1 + z) - 1)[:, None]
        codes = [place, depth_code]
        for value, octaves in ((place, POSITION_OCTAVES), (depth_code, DEPTH_OCTAVES)):
            for octave in range(octaves):
                angle = (torch.pi * 2**octave) * value
                codes += [angle.sin(), angle.cos()]
        return z, torch.cat(codes, dim=-1)

    def evaluate(self, z: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """z' in units (N,)."""
        value = encoded
        for index, (weight, bias) in enumerate(self.layers):
            value = torch.addmm(bias, value, weight)
            if index < len(self.layers) - 1:
                value = value.relu()
        return z * (1 + value[:, 0]).abs() + value[:, 1]

    @torch.no_grad()
    def bend(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network applied to every known pixel of `depth` (H, W)."""
        y, x = np.nonzero(depth > 0)
        z, encoded = self.inputs(depth[y, x], x, y)
        moved = self.evaluate(z, encoded).clamp(z / LARGEST_FACTOR, z * LARGEST_FACTOR)
        bent = np.zeros_like(depth)
        bent[y, x] = moved.numpy() * np.float32(self.unit)
        return bent


def _train(
    network: _Network,
    point_inputs: tuple[torch.Tensor, torch.Tensor],
    measured: torch.Tensor,
    grid_inputs: tuple[torch.Tensor, torch.Tensor],
    grid_known: torch.Tensor,
    settings: CoarseSettings,
) -> None:
    optimizer = torch.optim.Adam(network.parameters, lr=settings.learning_rate)
    falling = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / settings.iterations))
    prior = grid_inputs[0].reshape(grid_known.shape)
    z = torch.cat([point_inputs[0], grid_inputs[0]])
    encoded = torch.cat([point_inputs[1], grid_inputs[1]])
    for _ in range(settings.iterations):
        optimizer.zero_grad()
        moved = network.evaluate(z, encoded)
        at_points, on_grid = moved[: len(measured)], moved[len(measured) :]
        loss = point_loss(at_points, measured, huber=settings.huber) / settings.huber
        loss = loss + settings.shape_weight * shape_loss(
            on_grid.reshape(prior.shape), prior, grid_known
        )
        loss.backward()
        optimizer.step()
        falling.step()
