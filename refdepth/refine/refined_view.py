"""What a round of a view's refinement finds, and how long its parts took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import WorkGrid
from refdepth.refine.calibration import Calibration
from refdepth.refine.confidence import Trust
from refdepth.types.depth_map import DepthMap

Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedView:
    """A view after a round: on its working grid after the first, in the photo's after the second
    (H, W)."""

    depth: Map
    """Depth along the optical axis; 0 where the scaled prior says nothing."""
    confidence: Map
    """In [0, 1]; 0 where the depth is unknown."""
    record: dict[str, Any]
    """What was done: sources, accepted share, scores, flags, seconds by part. JSON-able."""
    trust: Trust | None = None
    """After the second round: what the scene's confidence is made from, on the working grid."""

    @property
    def depth_map(self) -> DepthMap:
        """Depth and confidence alone: what the neighbours' second round needs."""
        return DepthMap(depth=self.depth, confidence=self.confidence)

    def under(self, curve: Calibration, grid: WorkGrid) -> DepthMap:
        """Depth, and the confidence that a scene's curve states; after the second round."""
        order = np.zeros(grid.shape, np.float32) if self.trust is None else self.trust.order
        sure = curve.grown(order, grid) * (self.confidence > 0)
        return DepthMap(depth=self.depth, confidence=sure.astype(np.float32))


@dataclass
class Clock:
    """Seconds by part."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, part: str) -> None:
        """Counts the seconds since the last lap as those of `part`."""
        now = time.perf_counter()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self._since, 4)
        self._since = now
