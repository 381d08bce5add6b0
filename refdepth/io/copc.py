"""Clouds of any size for viewers that load levels of detail: COPC 1.0 (cloud optimised LAZ) through
copclib (extra `copc`).

The octree is built from the leaves up (as Untwine does, github.com/hobuinc/untwine): a cube with
more points than a node may have is split into eight; from each child a sample spread evenly goes up
to its parent, the rest stays. Rows wait in temporary files, so memory holds one subtree.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError, UnavailableError
from refdepth.io.copc_crs import insert_wkt
from refdepth.io.copc_disk import allocate, writing
from refdepth.types.cloud import PointCloud

_STEPS = 2.0**30
"""Steps of the integer coordinates over the side of the octree."""
NODE_POINTS = 50_000
"""A cube with more is split."""
_CELLS = 64
"""Cells of a node's cube, on a side, that each send up one point at most."""
_MAX_LEVEL = 24
"""Points that are in one place are never split apart."""
_IN_MEMORY = 2_000_000
_ROWS_AT_A_TIME = 500_000

_RECORD = np.dtype(
    [
        ("xyz", "<i4", 3),
        ("intensity", "<u2"),
        ("returns", "u1"),
        ("flags", "u1"),
        ("classification", "u1"),
        ("user_data", "u1"),
        ("scan_angle", "<i2"),
        ("point_source_id", "<u2"),
        ("gps_time", "<f8"),
        ("rgb", "<u2", 3),
    ]
)
"""Point format 7 of LAS 1.4."""
_ONE_OF_ONE = 0x11
"""Return number 1 of 1."""

Rows = NDArray[np.void]
Corner = tuple[int, int, int]


def write_copc(
    path: Path,
    pieces: Iterable[PointCloud],
    *,
    wkt: str | None = None,
    node_points: int = NODE_POINTS,
) -> int:
    """Writes a cloud, given in pieces, as `NAME.copc.laz`: LAS 1.4, point format 7, 16-bit colours,
    and the confidence in [0, 1] times 65535 as intensity. Coordinates are the clouds' own; `wkt`
    says in which coordinate reference system they are (OGC WKT 1), None that they are in none.
    Returns the number of points.

    Temporary files beside `path` take up to 100 bytes a point. Raises `UnavailableError` when
    copclib is not installed, `InputError` when there are no points, `OSError` when the file cannot
    be written.
    """
    copclib = _copclib()
    with TemporaryDirectory(dir=path.parent, prefix=".copc-") as scratch:
        poured = _poured(pieces, Path(scratch))
        if poured is None:
            raise InputError("the cloud has no points.", subject=path.name)
        stored, low, high = poured
        side = max(float((high - low).max()), 1e-9)
        scale = side / _STEPS
        rows = _records(stored, low, scale, Path(scratch))
        config = copclib.CopcConfigWriter(
            7, copclib.Vector3(scale, scale, scale), copclib.Vector3(*low)
        )
        with writing(copclib, path, config) as writer:
            info, header = writer.copc_config.copc_info, writer.copc_config.las_header
            info.halfsize = side / 2
            info.center_x, info.center_y, info.center_z = low + side / 2
            info.spacing = side / _CELLS
            header.min, header.max = copclib.Vector3(*low), copclib.Vector3(*high)
            header.points_by_return = [len(rows), *[0] * 14]
            _Octree(writer, copclib, node_points, Path(scratch)).build(rows)
        if wkt is not None:
            insert_wkt(path, wkt)
        return len(rows)


class _Octree:
    """Writes the nodes of a cube of `_STEPS` steps."""

    def __init__(self, writer: Any, copclib: Any, node_points: int, scratch: Path) -> None:
        self._writer = writer
        self._copclib = copclib
        self._node_points = node_points
        self._scratch = scratch

    def build(self, rows: Rows) -> None:
        """Writes all nodes of the points `rows`."""
        self._write(0, (0, 0, 0), self._gather(0, (0, 0, 0), rows))

    def _gather(self, level: int, corner: Corner, rows: Rows) -> Rows:
        """Writes all below a cube; returns what is the cube's own, a sample of all its points where
        it has children."""
        if len(rows) <= self._node_points or level == _MAX_LEVEL:
            return np.array(rows)
        samples = []
        for octant, part in enumerate(self._split(level, corner, rows)):
            if not len(part):
                continue
            child = (
                2 * corner[0] + (octant & 1),
                2 * corner[1] + (octant >> 1 & 1),
                2 * corner[2] + (octant >> 2),
            )
            own = self._gather(level + 1, child, part)
            goes_up = _one_a_cell(own, level)
            # Readers stop at a cube without points, so each above one that is split needs some.
            missing = level + 1 - np.count_nonzero(goes_up)
            goes_up[np.flatnonzero(~goes_up)[: max(missing, 0)]] = True
            if len(part) > self._node_points and goes_up.all():
                goes_up[0] = False
            samples.append(own[goes_up])
            self._write(level + 1, child, own[~goes_up])
        return np.concatenate(samples)

    def _write(self, level: int, corner: Corner, rows: Rows) -> None:
        if len(rows):
            data = self._copclib.VectorChar(rows.view(np.int8))
            self._writer.AddNode(self._copclib.VoxelKey(level, *corner), data)

    def _split(self, level: int, corner: Corner, rows: Rows) -> list[Rows]:
        """The rows of each of the eight children, x changing fastest."""
        half = _STEPS / 2 ** (level + 1)
        middle = (np.array(corner) * 2 + 1) * half
        counts = np.zeros(8, np.int64)
        for part in _parts(rows):
            counts += np.bincount(_octants(part, middle), minlength=8)
        ends = np.cumsum(counts)
        sorted_rows = _room(len(rows), self._scratch / f"level-{level}")
        place = ends - counts
        for part in _parts(rows):
            octants = _octants(part, middle)
            for octant in np.unique(octants):
                chosen = part[octants == octant]
                sorted_rows[place[octant] : place[octant] + len(chosen)] = chosen
                place[octant] += len(chosen)
        return [sorted_rows[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _octants(rows: Rows, middle: NDArray[np.float64]) -> NDArray[np.int64]:
    return (rows["xyz"] >= middle) @ np.array([1, 2, 4])


def _one_a_cell(rows: Rows, level: int) -> NDArray[np.bool_]:
    """Which rows (N,) are the first in their cell of a node at `level`."""
    cell = rows["xyz"].astype(np.int64) // max(int(_STEPS / 2**level) // _CELLS, 1)
    cell -= cell.min(axis=0)  # below 64 now, as all are of one node
    _, first = np.unique(cell @ [1, _CELLS, _CELLS**2], return_index=True)
    chosen = np.zeros(len(rows), np.bool_)
    chosen[first] = True
    return chosen


def _parts(rows: Rows) -> Iterable[Rows]:
    return (rows[at : at + _ROWS_AT_A_TIME] for at in range(0, len(rows), _ROWS_AT_A_TIME))


def _room(count: int, path: Path) -> Rows:
    """Room for rows: in memory where they are few, else in a file. A level's file is one at a time:
    whoever came before on it is done."""
    if count <= _IN_MEMORY:
        return np.empty(count, _RECORD)
    path.unlink(missing_ok=True)
    allocate(path, count * _RECORD.itemsize)
    return np.memmap(path, _RECORD, "r+", shape=(count,))


_STORED = np.dtype([("xyz", "<f8", 3), ("confidence", "<f4"), ("rgb", "u1", 3)])


def _poured(
    pieces: Iterable[PointCloud], scratch: Path
) -> tuple[Rows, NDArray[np.float64], NDArray[np.float64]] | None:
    """The pieces one after another in a file, and the corners of what they fill; None without
    points."""
    low, high, count = np.full(3, np.inf), np.full(3, -np.inf), 0
    with (scratch / "poured").open("wb") as file:
        for piece in pieces:
            rows = np.empty(len(piece), _STORED)
            rows["xyz"], rows["confidence"], rows["rgb"] = (
                piece.points,
                piece.confidence,
                piece.colors,
            )
            if len(rows):
                low = np.minimum(low, rows["xyz"].min(axis=0))
                high = np.maximum(high, rows["xyz"].max(axis=0))
            file.write(rows.tobytes())
            count += len(rows)
    if not count:
        return None
    return np.memmap(scratch / "poured", _STORED, "r", shape=(count,)), low, high


def _records(stored: Rows, low: NDArray[np.float64], scale: float, scratch: Path) -> Rows:
    """LAS records of the poured points; the poured file goes."""
    rows = _room(len(stored), scratch / "records")
    for at in range(0, len(stored), _ROWS_AT_A_TIME):
        part, out = stored[at : at + _ROWS_AT_A_TIME], rows[at : at + _ROWS_AT_A_TIME]
        filled = np.zeros(len(part), _RECORD)
        steps = np.rint((part["xyz"] - low) / scale)
        filled["xyz"] = np.minimum(steps, _STEPS - 1)
        filled["intensity"] = np.rint(np.clip(part["confidence"], 0, 1) * 65535)
        filled["returns"] = _ONE_OF_ONE
        # LAS asks for the full 16-bit range: 255 becomes 65535.
        filled["rgb"] = part["rgb"].astype(np.uint16) * 257
        out[:] = filled
    (scratch / "poured").unlink()
    return rows


def _copclib() -> Any:
    try:
        import copclib
    except ImportError as error:
        raise UnavailableError(
            "is not installed; COPC needs it.",
            subject="copclib",
            action="pip install 'refdepth[copc]', or export the cloud as LAZ or PLY.",
        ) from error
    return copclib
