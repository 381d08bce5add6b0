"""Simulated monocular priors: exact depth, spoiled the way networks spoil it."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.types.prior import Prior, PriorKind


class PriorError(StrEnum):
    """How a simulated prior is wrong, beyond its unknown scale and shift."""

    SMOOTH = "smooth"
    """A distortion that varies slowly over the picture."""
    OBJECTWISE = "objectwise"
    """Each surface with its own scale and tilt."""


_SMEAR = 0.004
"""Width of smeared edges as a share of the picture's width."""
_DISTORTION = 0.09
"""Standard deviation of log depth that a smooth distortion adds."""
_OBJECT_SCALE, _OBJECT_TILT = 0.1, 0.25
"""Standard deviation of each surface's log scale, and of its tilt over the picture's width."""


def simulate_prior(
    depth: NDArray[np.float32],
    surface: NDArray[np.int32],
    kind: PriorKind,
    error: PriorError,
    rng: np.random.Generator,
) -> Prior:
    """A prior of `kind` for exact `depth` (H, W) whose pixels belong to `surface` (H, W). Where
    depth is 0, the sky, it says very far."""
    distort = _objectwise if error == PriorError.OBJECTWISE else _smooth
    sky = depth == 0
    inverse = distort(surface, rng) / np.where(sky, np.inf, depth.astype(np.float64))
    inverse = ndimage.gaussian_filter(inverse, _SMEAR * depth.shape[1])
    if sky.any():
        inverse = np.maximum(inverse, 1e-2 * inverse[~sky].min(initial=1.0))
    scale = np.exp(rng.uniform(-1.0, 1.0))
    shift = rng.uniform(-0.3, 0.3)
    if kind == PriorKind.INVERSE_AFFINE:
        values = (inverse - shift * np.median(inverse)) * scale
    elif kind == PriorKind.AFFINE:
        values = (1 / inverse - shift * np.median(1 / inverse)) * scale
    else:
        # A metric network knows the unit, and misses it by some percent from photo to photo.
        values = 1 / inverse * np.exp(rng.uniform(-0.2, 0.2))
    return Prior(values=values.astype(np.float32), kind=kind, in_metres=kind == PriorKind.METRIC)


def _smooth(surface: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Factors (H, W) that vary on the scale of a fifth of the picture."""
    height, width = surface.shape
    field = ndimage.zoom(rng.normal(size=(6, 8)), (height / 6, width / 8), order=3, mode="nearest")
    field = field[:height, :width]
    return np.exp(_DISTORTION * (field - field.mean()) / field.std())


def _objectwise(surface: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Factors (H, W) that are a plane on each surface."""
    height, width = surface.shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    factor = np.ones(surface.shape)
    for label in range(int(surface.max()) + 1):
        scale = rng.normal(0, _OBJECT_SCALE)
        tilt_x, tilt_y = rng.normal(0, _OBJECT_TILT, 2)
        on = surface == label
        if on.any():
            plane = scale + tilt_x * (x[on] - x[on].mean()) + tilt_y * (y[on] - y[on].mean())
            factor[on] = np.exp(plane)
    return factor


class Spoiling(StrEnum):
    """How a prior can be of no use, in part or wholly."""

    CONSTANT = "constant"
    """One value all over the picture."""
    HALF_WRONG = "half_wrong"
    """The right half runs the wrong way: what is near is said to be far."""
    UPSIDE_DOWN = "upside_down"
    """All of it runs the wrong way."""


def spoil_prior(prior: Prior, how: Spoiling) -> Prior:
    """`prior` spoiled; unknown stays unknown, and values keep their range."""
    values = prior.values
    known = values[np.isfinite(values)]
    if known.size == 0:
        return prior
    if how == Spoiling.CONSTANT:
        spoiled = np.where(np.isfinite(values), np.median(known), values)
    else:
        wrong = np.full(values.shape, how == Spoiling.UPSIDE_DOWN)
        wrong[:, values.shape[1] // 2 :] = True
        spoiled = np.where(wrong, known.min() + known.max() - values, values)
    return replace(prior, values=spoiled.astype(np.float32))
