"""Fusion by tiles: what views give is kept by place, and space becomes cloud part by part.

All that concerns several views (who confirms a pixel, what they agree on, who gives a surface) is
settled view by view before; what is left is to merge what falls into one voxel. Voxels of all
levels nest in blocks, so tiles of whole blocks need nothing from beside them: their clouds together
hold the very points that the scene as one tile has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.fusion.voxels import ROW, Lattice, VoxelGrid, block_keys, put_rows
from refdepth.types.cloud import PointCloud

TILE_POINTS = 1 << 16
"""Unmerged points of a tile; a block that has more is a tile of its own."""
POINTS_AT_A_TIME = 1 << 14
"""Of these, how many are in memory at a time: merging takes ten times their place."""

Index = Mapping[str, NDArray[np.int64]]
"""What a view's file holds: `key` (R,) of the block of each run of points, their `count` (R,)."""


def write_rows(path: Path, parts: Iterable[NDArray[np.void]]) -> Index:
    """Writes the rows that a view gives, each part sorted along a curve through space."""
    keys, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    with path.open("wb") as file:
        for rows in parts:
            key = block_keys(rows)
            order = np.argsort(key, kind="stable")
            put_rows(file, rows[order])
            found, count = np.unique(key, return_counts=True)
            keys.append(found)
            counts.append(count.astype(np.int64))
    return {"key": np.concatenate(keys), "count": np.concatenate(counts)}


def read_rows(path: Path, index: Index, tile: Tile) -> Iterator[NDArray[np.void]]:
    """The rows of a view's file that lie in a tile, in the order in which they were written.

    Raises `OSError` where the file ends early.
    """
    ends = np.cumsum(index["count"])
    inside = np.flatnonzero((index["key"] >= tile.first) & (index["key"] <= tile.last))
    with path.open("rb") as file:
        for runs in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
            if len(runs):
                start = int(ends[runs[0]] - index["count"][runs[0]])
                count = int(ends[runs[-1]]) - start
                file.seek(start * ROW.itemsize)
                rows = np.fromfile(file, ROW, count)
                if len(rows) < count:
                    raise OSError(f"{path} ends early")
                yield rows


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of space: the blocks of some length of a Morton curve."""

    first: int
    last: int
    """Keys of its first block and its last one."""
    views: tuple[str, ...]
    """Those that give points in it, in the order in which views give theirs."""


def cut_tiles(
    order: Sequence[str], index: Callable[[str], Index], most: int = TILE_POINTS
) -> list[Tile]:
    """The tiles of a scene along the curve: as many blocks each as have `most` points. `order` is
    that in which views give theirs, `index` tells of each what it gives."""
    points: dict[int, int] = {}
    for name in order:
        found = index(name)
        for key, count in zip(found["key"].tolist(), found["count"].tolist(), strict=True):
            points[key] = points.get(key, 0) + count
    bounds: list[tuple[int, int]] = []
    held = 0
    for key in sorted(points):
        if bounds and held + points[key] <= most:
            bounds[-1] = bounds[-1][0], key
            held += points[key]
        else:
            bounds.append((key, key))
            held = points[key]
    views: list[list[str]] = [[] for _ in bounds]
    last = np.array([last for _, last in bounds], np.int64)
    for name in order:
        for number in np.unique(np.searchsorted(last, index(name)["key"])):
            views[number].append(name)
    return [
        Tile(first=first, last=last, views=tuple(names))
        for (first, last), names in zip(bounds, views, strict=True)
    ]


def fuse_tile(
    tile: Tile,
    read: Callable[[str], Iterable[NDArray[np.void]]],
    lattice: Lattice,
    positions: type[np.floating[Any]],
    *,
    scratch: Path | None = None,
    memory_rows: int = POINTS_AT_A_TIME,
) -> Iterator[PointCloud]:
    """The cloud of a tile in pieces. `read` gives the rows of a view in it, `positions` is the type
    of positions; rows beyond `memory_rows` go to temporary files in `scratch`."""
    with closing(VoxelGrid(lattice, memory_rows, scratch)) as grid:
        for name in tile.views:
            for rows in read(name):
                grid.add(rows)
        for points, values in grid.pieces():
            yield _piece(points, values, positions)


def _piece(
    points: NDArray[np.float64], values: NDArray[np.float64], positions: type[np.floating[Any]]
) -> PointCloud:
    length = np.linalg.norm(values[:, :3], axis=1, keepdims=True)
    normals = np.divide(values[:, :3], length, out=np.zeros_like(values[:, :3]), where=length > 0)
    return PointCloud(
        points=points.astype(positions),
        normals=normals.astype(np.float32),
        colors=np.rint(values[:, 3:6].clip(0, 255)).astype(np.uint8),
        confidence=np.clip(values[:, 6], 0, 1).astype(np.float32),
    )
