"""A depth map as a triangle grid, cut where depth jumps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class GridMesh:
    """Triangles over a grid of pixels. Vertices are stored row by row, `rows * columns` of them,
    also where nothing is known: those have depth 0 and belong to no triangle."""

    vertices_px: NDArray[np.float32]
    """Pixel coordinates of the vertices (V, 2); the centre of the first pixel is (0.5, 0.5)."""
    depth: NDArray[np.float32]
    """Depth of the vertices (V,); 0 means unknown."""
    triangles: NDArray[np.int32]
    """Vertex indices (T, 3), in the order of the grid."""
    rows: int
    """Vertices from top to bottom."""
    columns: int
    """Vertices from left to right."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of vertices."""
        return self.rows, self.columns

    @property
    def cell_px(self) -> float:
        """Pixels between the first two vertices of a row; 0 where it has one."""
        return float(self.vertices_px[min(1, self.columns - 1), 0] - self.vertices_px[0, 0])


def grid_positions(size: int, stride: int) -> NDArray[np.int64]:
    """The pixels of one axis that carry a vertex: every `stride`-th, and the last one, so that the
    grid reaches from the first pixel to the last (the last cell may be narrower)."""
    if size < 1 or stride < 1:
        raise ValueError(f"size and stride must be at least 1, not {size} and {stride}")
    positions = np.arange(0, size, stride)
    return positions if positions[-1] == size - 1 else np.append(positions, size - 1)


def grid_mesh(depth: ArrayLike, stride: int, cut_ratio: float) -> GridMesh:
    """Meshes a depth map with a vertex at every `stride`-th pixel centre.

    `depth` is (height, width); values that are not positive and finite are unknown. A triangle is
    kept when its three depths are known and the largest is at most `cut_ratio` times the smallest.
    Each cell is split along the diagonal across which depth changes less, so cuts follow the edge.

    Raises `ValueError` when `depth` is not a matrix, `stride` < 1 or `cut_ratio` < 1.
    """
    depth = np.asarray(depth, dtype=np.float32)
    if depth.ndim != 2:
        raise ValueError(f"depth must be (height, width), not {depth.shape}")
    if not cut_ratio >= 1:
        raise ValueError(f"cut_ratio must be at least 1, not {cut_ratio}")
    y = grid_positions(depth.shape[0], stride)
    x = grid_positions(depth.shape[1], stride)
    rows, columns = len(y), len(x)

    z = depth[np.ix_(y, x)]
    z = np.where(np.isfinite(z) & (z > 0), z, np.float32(0)).ravel()
    xy = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32) + np.float32(0.5)
    return GridMesh(
        vertices_px=xy,
        depth=z,
        triangles=_triangles(z, rows, columns, cut_ratio),
        rows=rows,
        columns=columns,
    )


def _triangles(
    z: NDArray[np.float32], rows: int, columns: int, cut_ratio: float
) -> NDArray[np.int32]:
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    top_left, top_right = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    bottom_left, bottom_right = index[1:, :-1].ravel(), index[1:, 1:].ravel()

    with np.errstate(divide="ignore"):
        log_z = np.log(z, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        falling = np.abs(log_z[top_left] - log_z[bottom_right])
        rising = np.abs(log_z[top_right] - log_z[bottom_left])
    # An unknown corner rules out the diagonal through it; three known corners still make a
    # triangle.
    falling = np.where(np.isfinite(falling), falling, np.inf)
    rising = np.where(np.isfinite(rising), rising, np.inf)
    split_falling = (falling <= rising)[:, None]

    first = np.where(
        split_falling,
        np.stack([top_left, bottom_left, bottom_right], axis=-1),
        np.stack([top_left, bottom_left, top_right], axis=-1),
    )
    second = np.where(
        split_falling,
        np.stack([top_left, bottom_right, top_right], axis=-1),
        np.stack([top_right, bottom_left, bottom_right], axis=-1),
    )
    triangles = np.stack([first, second], axis=1).reshape(-1, 3)
    corner_z = z[triangles].astype(np.float64)
    nearest, farthest = corner_z.min(axis=1), corner_z.max(axis=1)
    return np.ascontiguousarray(triangles[(nearest > 0) & (farthest <= cut_ratio * nearest)])
