"""Compiled loops that compare two pictures, one row of pixels a work item."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from refdepth.compiled import kernel, parallel_kernel

CONTRACT = {"contract"}
SUMMING = {"contract", "reassoc", "nsz"}
"""Sums in the order that suits the machine: the same on every run, not on every machine."""

Floats = NDArray[np.floating[Any]]
Lanes = tuple[int, ...]
"""A tuple as long as there are channels, which makes their number a constant of the compiled code.
"""


@parallel_kernel(fastmath=CONTRACT)
def sum_rows(
    rendered: Floats,
    target: Floats,
    weight: NDArray[Any],
    lanes: Lanes,
    squared: bool,
    limit: float,
    sums: NDArray[np.float64],
) -> None:
    """For each row of `rendered` (N, W * C): the sum of weight times difference, and that of the
    weights (N, 2). A pixel's difference is the mean over its channels, `limit` at most."""
    rows, width = weight.shape
    for row in prange(rows):
        cost = np.empty(width, rendered.dtype)
        differences(rendered[row], target[row], lanes, squared, cost)
        sums[row, 0], sums[row, 1] = weighted_sums(cost, weight[row], limit)


@parallel_kernel(fastmath=CONTRACT)
def pull_rows(
    rendered: Floats,
    target: Floats,
    weight: NDArray[Any],
    lanes: Lanes,
    squared: bool,
    limit: float,
    scale: float,
    out: Floats,
) -> None:
    """Fills `out` (N, W * C) with the gradient of `scale` times the sum of weight times difference,
    as in `sum_rows`, with respect to `rendered`."""
    rows, width = weight.shape
    for row in prange(rows):
        cost, factor = np.empty(width, rendered.dtype), np.empty(width, rendered.dtype)
        if limit < np.inf:
            differences(rendered[row], target[row], lanes, squared, cost)
            for x in range(width):
                inside = cost[x] < limit
                factor[x] = scale / len(lanes) * weight[row, x] if inside else 0.0
        else:
            for x in range(width):
                factor[x] = scale / len(lanes) * weight[row, x]
        pulls(rendered[row], target[row], factor, lanes, squared, out[row])


@kernel(fastmath=CONTRACT)
def differences(rendered: Floats, target: Floats, lanes: Lanes, squared: bool, out: Floats) -> None:
    """Mean over the channels of each pixel's squared or absolute difference."""
    scalar = out.dtype.type
    share = scalar(1 / len(lanes))
    for x in range(len(out)):
        total = scalar(0)
        for lane in range(len(lanes)):
            i = np.uint64(x) * np.uint64(len(lanes)) + np.uint64(lane)
            difference = rendered[i] - target[i]
            total += difference * difference if squared else abs(difference)
        out[x] = total * share


@kernel(fastmath=SUMMING)
def weighted_sums(cost: Floats, weight: NDArray[Any], limit: float) -> tuple[float, float]:
    """Sum of weight times cost, each at most `limit`, and sum of the weights."""
    total = share = 0.0
    for x in range(len(cost)):
        total += weight[x] * min(cost[x], limit)
        share += weight[x]
    return total, share


@kernel(fastmath=CONTRACT)
def pulls(
    rendered: Floats, target: Floats, factor: Floats, lanes: Lanes, squared: bool, out: Floats
) -> None:
    """`factor` of each pixel times the derivative of its channels' difference."""
    scalar = out.dtype.type
    for x in range(len(factor)):
        for lane in range(len(lanes)):
            i = np.uint64(x) * np.uint64(len(lanes)) + np.uint64(lane)
            difference = rendered[i] - target[i]
            if squared:
                out[i] = scalar(2) * factor[x] * difference
            else:
                out[i] = factor[x] * np.sign(difference)
