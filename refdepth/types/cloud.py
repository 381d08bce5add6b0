"""A coloured point cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class PointCloud:
    """Points with normals, colours and confidence, in world coordinates."""

    points: NDArray[np.floating[Any]]
    """Positions (N, 3), SfM units; float64 where the scene lies so far from the origin (map
    coordinates) that float32 is too coarse for it, else float32."""
    normals: NDArray[np.float32]
    """Unit normals (N, 3) towards the cameras; zero where unknown."""
    colors: NDArray[np.uint8]
    """RGB (N, 3)."""
    confidence: NDArray[np.float32]
    """In [0, 1] (N,)."""

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def empty(cls) -> PointCloud:
        """A cloud without points."""
        zero = np.zeros((0, 3), np.float32)
        return cls(points=zero, normals=zero, colors=zero.astype(np.uint8), confidence=zero[:, 0])

    @classmethod
    def concatenate(cls, pieces: Sequence[PointCloud]) -> PointCloud:
        """One cloud from several; empty from none."""
        names = ("points", "normals", "colors", "confidence")
        pieces = pieces or [cls.empty()]
        return cls(**{n: np.concatenate([getattr(p, n) for p in pieces]) for n in names})

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> PointCloud:
        """The points of a mask (N,), or of row numbers (M,) in their order."""
        return PointCloud(
            points=self.points[rows],
            normals=self.normals[rows],
            colors=self.colors[rows],
            confidence=self.confidence[rows],
        )

    def thinned(self, count: int, *, seed: int = 0) -> PointCloud:
        """`count` of the points, chosen at random from `seed`; the cloud itself when it has no more
        than that."""
        if len(self) <= count:
            return self
        return self.select(
            np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        )
