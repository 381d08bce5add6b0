"""What a depth prior is: a map of a view's shape, and how it relates to depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refdepth.types.scene import Scene, View


class PriorKind(StrEnum):
    """How a prior's values x relate to depth z."""

    INVERSE_AFFINE = "inverse_affine"
    """1 / z = a x + b: relative networks (larger is nearer)."""
    AFFINE = "affine"
    """z = a x + b."""
    METRIC = "metric"
    """z = a x: metric networks, sensors, plane sweeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """One view's prior, at the resolution it has: the value in a row and column belongs to the
    pixel x = (column + 0.5) step, y = (row + 0.5) step of the undistorted photo."""

    values: NDArray[np.float32]
    """Prior values (h, w); NaN where the prior says nothing."""
    kind: PriorKind
    confidence: NDArray[np.float32] | None = None
    """In [0, 1] (h, w), where the prior knows how sure it is."""
    in_metres: bool = False
    """Whether a metric prior's values are metres (a metric network or sensor)."""
    step: tuple[float, float] = (1.0, 1.0)
    """Pixels of the photo for each value, down and across."""

    @property
    def covers(self) -> tuple[float, float]:
        """Height and width of what it covers, pixels of the photo."""
        return self.values.shape[0] * self.step[0], self.values.shape[1] * self.step[1]


class DepthPrior(Protocol):
    """Where priors come from. Implementations: `network`, `sweep`, `maps`."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What determines this source's results (model id, revision, settings), for records and
        fingerprints. Paths of content-hashed inputs stay out."""
        ...

    def estimate(self, view: View, scene: Scene) -> Prior:
        """The prior of one view, of all of its photo. Deterministic; reads only the scene."""
        ...
