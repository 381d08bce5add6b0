"""A view's depth with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthMap:
    """Depth of one view, in the grid of its undistorted photo unless said otherwise (first rounds
    lie on the working grid)."""

    depth: NDArray[np.float32]
    """Depth along the optical axis (height, width), SfM units; 0 means unknown."""
    confidence: NDArray[np.float32]
    """In [0, 1] (height, width); 0 where the depth is unknown."""

    def __post_init__(self) -> None:
        for name in ("depth", "confidence"):
            array = getattr(self, name)
            if array.ndim != 2 or array.dtype != np.float32:
                raise ValueError(
                    f"{name} must be float32 (height, width), not {array.dtype} {array.shape}"
                )
        if self.depth.shape != self.confidence.shape:
            raise ValueError(f"depth is {self.depth.shape}, confidence {self.confidence.shape}")

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where depth is known (height, width)."""
        return self.depth > 0

    def within(self, mask: NDArray[np.bool_]) -> DepthMap:
        """The same with nothing known outside `mask` (height, width)."""
        zero = np.float32(0)
        return DepthMap(
            depth=np.where(mask, self.depth, zero),
            confidence=np.where(mask, self.confidence, zero),
        )
