"""The sky while a view is refined: a surface behind everything, and afterwards no depth.

A scaled prior is infinite where it says that there is nothing within what can be believed. Left
out from the start, the smear that a network draws between a roof and the sky would have one side
only, and end as points in the air; as a surface far behind all others the sky takes part in the
search and in the sharpening of edges, and a neighbour that sees it through a point speaks against
that point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
BEHIND = 4.0
"""Depth of the sky while refining, in farthest depths of the scaled prior: so far behind that no
search carries the one into the other."""
LIMIT = 2.0
"""Depth from which a refined pixel is sky, in the same."""


@dataclass(frozen=True, kw_only=True)
class Sky:
    """The sky in one view."""

    farthest: float | None
    """Farthest depth of the scaled prior; None in a view without sky."""

    @classmethod
    def of(cls, scaled: Map) -> Sky:
        """From a scaled prior (H, W): infinite in the sky, 0 unknown."""
        if not np.isinf(scaled).any():
            return cls(farthest=None)
        return cls(farthest=float(scaled[np.isfinite(scaled)].max(initial=0)))

    def placed(self, scaled: Map) -> Map:
        """`scaled` with the sky at a finite depth; the same array where there is none."""
        if self.farthest is None:
            return scaled
        return np.where(np.isinf(scaled), np.float32(BEHIND * self.farthest), scaled)

    def within(self, depth: Map) -> NDArray[np.bool_]:
        """Where refined `depth` (H, W) is sky."""
        if self.farthest is None:
            return np.zeros(depth.shape, bool)
        return depth > np.float32(LIMIT * self.farthest)

    def removed(self, depth: Map) -> Map:
        """`depth` (H, W) with 0 for the sky; the same array where there is none."""
        if self.farthest is None:
            return depth
        return np.where(self.within(depth), np.float32(0), depth)
