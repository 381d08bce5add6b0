"""A coloured triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class TriangleMesh:
    """Triangles in world coordinates."""

    vertices: NDArray[np.floating[Any]]
    """Positions (N, 3), SfM units; float32 or float64 as a `PointCloud`'s points."""
    normals: NDArray[np.float32]
    """Unit normals (N, 3)."""
    colors: NDArray[np.uint8]
    """RGB (N, 3)."""
    triangles: NDArray[np.int32]
    """Rows of vertices (T, 3)."""
