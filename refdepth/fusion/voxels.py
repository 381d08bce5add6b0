"""Merging points that fall into one voxel, in bounded memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError

_BUCKETS = 64
_LEVELS = 16  # from 2**-8 to 2**7 of the grid's voxel
_FINEST = -_LEVELS // 2
_BLOCK = _LEVELS // 2  # a block is 2**8 voxels wide: every cell lies in one
_CELL_LIMIT = 2**30
_KEY_BITS = 21
"""Of each coordinate of a block in a key; those further out share the outermost."""

# A row holds the cell (level, i, j, k) and weighted sums of position, normal, colour, confidence.
ROW = np.dtype(
    [
        ("level", np.int8),
        ("cell", np.int32, 3),
        ("weight", np.float64),
        ("sums", np.float64, 10),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Where the voxels of a cloud lie. They come in levels of `voxel * 2**level` and nest, those of
    all levels in blocks."""

    origin: tuple[float, float, float]
    voxel: float
    """Size of a voxel of level 0, SfM units."""

    def rows(
        self,
        points: NDArray[np.float64],
        values: NDArray[np.float64],
        weight: NDArray[np.float64],
        spacing: NDArray[np.float64],
    ) -> NDArray[np.void]:
        """Points (N, 3) with `values` (N, 7: normal, colour, confidence), weights (N,) and their
        spacing (N,), the size of a voxel that suits them, as rows (M,): one a voxel.

        Raises `InputError` when the points spread over more voxels than can be counted.
        """
        level = np.floor(np.log2(spacing / self.voxel) + 0.5)
        level = np.clip(level, _FINEST, _BLOCK - 1).astype(np.int8)
        local = points - np.array(self.origin)
        cell = np.floor(local / (self.voxel * np.exp2(level.astype(np.float64)))[:, None])
        if not (np.abs(cell) < _CELL_LIMIT).all():
            raise InputError(
                "the scene spreads over too many voxels.",
                subject="fuse.voxel_px",
                action="Raise it, or look for depth maps with wild values.",
            )
        rows = np.empty(len(points), ROW)
        rows["level"], rows["cell"], rows["weight"] = level, cell, weight
        rows["sums"] = np.concatenate([local, values], axis=1) * weight[:, None]
        return _merge(rows)


def block_keys(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Numbers (N,) of the blocks that the rows' cells lie in, along a Morton curve."""
    half = 1 << (_KEY_BITS - 1)
    return _morton(_cubes(rows, _BLOCK).clip(-half, half - 1) + half)


class VoxelGrid:
    """Averages the rows of one voxel.

    Where a finer level has points, a coarser voxel there is dropped: the surface was seen from
    nearer. Rows are kept in buckets of space; when `memory_rows` are exceeded they go to temporary
    files, and a bucket of more rows than that is taken apart into cubes. The result does not depend
    on it.
    """

    def __init__(self, lattice: Lattice, memory_rows: int, folder: Path | None) -> None:
        self._origin = np.array(lattice.origin)
        self._memory_rows = memory_rows
        self._rows_held = 0
        self._held: list[list[NDArray[np.void]]] = [[] for _ in range(_BUCKETS)]
        self._scratch = tempfile.TemporaryDirectory(prefix=".tmp-refdepth-fuse-", dir=folder)

    def close(self) -> None:
        """Removes the temporary files."""
        self._scratch.cleanup()

    def add(self, rows: NDArray[np.void]) -> None:
        """Adds rows of the lattice. Those of one voxel are summed in the order in which they
        come."""
        bucket = _bucket_of(rows)
        order = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        for index in range(_BUCKETS):
            part = rows[order[edges[index] : edges[index + 1]]]
            if len(part):
                self._held[index].append(part)
        self._rows_held += len(rows)
        if self._rows_held > self._memory_rows:
            self._spill()

    def pieces(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Merged points (M, 3) in world coordinates and values (M, 8: normal sum, colour,
        confidence, weight), one part of space at a time: along the blocks of a bucket, and within
        a block along a Morton curve."""
        for index in range(_BUCKETS):
            parts = self._held[index]
            self._held[index] = []
            path = self._path(index)
            if path.exists() or sum(map(len, parts)) > self._memory_rows:
                _append(path, parts)
                parts = []
                found = self._within(path, _BLOCK + 1)
            else:
                found = iter([_finished(np.concatenate(parts))] if parts else [])
            for rows in found:
                mean = rows["sums"] / rows["weight"][:, None]
                values = np.concatenate([mean[:, 3:], rows["weight"][:, None]], axis=1)
                yield mean[:, :3] + self._origin, values

    def _within(self, path: Path, edge: int) -> Iterator[NDArray[np.void]]:
        """Finished rows of a file that holds one cube of 2**`edge` voxels (above `_BLOCK`: any
        number of blocks), in parts that fit into memory."""
        finer = any((rows["level"] < edge).any() for rows in self._chunks(path))
        if _rows_in(path) <= self._memory_rows or not finer:
            rows = np.fromfile(path, dtype=ROW)
            path.unlink()
            yield _finished(rows)
            return
        children: dict[tuple[int, ...], Path] = {}
        for rows in self._chunks(path):
            inside = rows[rows["level"] < edge]  # the cube itself is covered by what is in it
            for corner, part in _by_cube(inside, edge - 1):
                name = f"{path.stem}-{len(children)}.rows"
                _append(children.setdefault(corner, path.with_name(name)), [part])
        path.unlink()
        for corner in sorted(children):
            yield from self._within(children[corner], edge - 1)

    def _chunks(self, path: Path) -> Iterator[NDArray[np.void]]:
        with path.open("rb") as file:
            while len(rows := np.fromfile(file, dtype=ROW, count=self._memory_rows)):
                yield rows

    def _spill(self) -> None:
        for index, parts in enumerate(self._held):
            if parts:
                _append(self._path(index), parts)
                parts.clear()
        self._rows_held = 0

    def _path(self, index: int) -> Path:
        return Path(self._scratch.name) / f"{index:02d}.rows"


def _bucket_of(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Bucket of the block that holds each row's cell; cells that nest share a block."""
    mixed = _cubes(rows, _BLOCK) @ np.array([73856093, 19349663, 83492791])
    return np.asarray(mixed % _BUCKETS, dtype=np.int64)


def _append(path: Path, parts: Iterable[NDArray[np.void]]) -> None:
    with path.open("ab") as file:
        for part in parts:
            put_rows(file, part)


def put_rows(file: BinaryIO, rows: NDArray[np.void]) -> None:
    """Writes rows as they are. Raises `OSError` that says why it cannot: NumPy's own `tofile` does
    not."""
    file.write(np.ascontiguousarray(rows).view(np.uint8).data)


def _rows_in(path: Path) -> int:
    return path.stat().st_size // ROW.itemsize


def _finished(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Rows of whole cubes merged, without what a finer level covers, in the order of the output:
    by block, then along a Morton curve."""
    rows = _drop_covered(_merge(rows))
    block = _cubes(rows, _BLOCK)
    corner = rows["cell"].astype(np.int64) << (rows["level"].astype(np.int64) - _FINEST)[:, None]
    inside = corner & ((1 << (_BLOCK - _FINEST)) - 1)
    return rows[np.lexsort((_morton(inside), block[:, 2], block[:, 1], block[:, 0]))]


def _morton(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places (N, 3), coordinates of at most 21 bits, as numbers along a Morton curve (N,)."""
    x, y, z = (_spread(places[:, axis]) for axis in range(3))
    return (x << 2) | (y << 1) | z


def _spread(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of 21 bits with two zeros before each bit."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | (values << shift)) & mask
    return values


def _cubes(rows: NDArray[np.void], edge: int) -> NDArray[np.int64]:
    """The cube of 2**`edge` voxels that each row's cell lies in (N, 3). No cell may be larger."""
    shift = np.int64(edge) - rows["level"]
    return rows["cell"].astype(np.int64) >> shift[:, None]


def _by_cube(
    rows: NDArray[np.void], edge: int
) -> Iterator[tuple[tuple[int, ...], NDArray[np.void]]]:
    """The rows of each cube of 2**`edge` voxels, with its coordinates."""
    if not len(rows):
        return
    cube = _cubes(rows, edge)
    key = _keys(cube.astype(np.int32))
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    for part in np.split(order, starts[1:]):
        yield tuple(int(n) for n in cube[part[0]]), rows[part]


def _merge(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Rows of one cell added up, ordered by cell. Sums run in the order of the rows."""
    if not len(rows):
        return rows
    key = _keys(np.concatenate([rows["level"][:, None].astype(np.int32), rows["cell"]], axis=1))
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    if len(start) == len(rows):
        return rows
    merged = rows[start].copy()
    merged["weight"] = np.add.reduceat(rows["weight"], start)
    merged["sums"] = np.add.reduceat(rows["sums"], start, axis=0)
    return merged


def _drop_covered(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Without the cells that hold a cell of a finer level. `rows` come merged."""
    levels = np.unique(rows["level"])
    if len(levels) < 2:
        return rows
    keep = np.ones(len(rows), bool)
    finer = np.empty((0, 3), np.int32)
    below = int(levels[0])
    for level in levels:
        finer = finer >> (int(level) - below)
        here = np.flatnonzero(rows["level"] == level)
        both = np.concatenate([finer, rows["cell"][here]])
        key = _keys(both)
        keep[here] = ~np.isin(key[len(finer) :], key[: len(finer)])
        finer, below = both[np.unique(key, return_index=True)[1]], int(level)
    return rows[keep]


def _keys(cells: NDArray[np.int32]) -> NDArray[np.int64]:
    """One number for each row of `cells` (N, K), N > 0: equal for equal rows, and in their order
    (first column first)."""
    low = cells.min(axis=0).astype(np.int64)
    size = [int(n) for n in cells.max(axis=0) - low + 1]
    if math.prod(size) > np.iinfo(np.int64).max:
        return np.unique(cells, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
    key = np.zeros(len(cells), np.int64)
    for column, (first, count) in enumerate(zip(low, size, strict=True)):
        key = key * count + (cells[:, column] - first)
    return key
