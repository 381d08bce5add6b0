"""Point clouds and meshes as binary PLY."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from refdepth.errors import InputError
from refdepth.types.cloud import PointCloud
from refdepth.types.mesh import TriangleMesh

_PIECE = 1 << 17
"""Points that are read at a time."""
_COUNT_WIDTH = 20  # the vertex count is padded, so that it can be filled in at the end

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_NAMES = {"f4": "float", "f8": "double", "u1": "uchar"}


def write_ply(
    path: Path, cloud: PointCloud | Iterable[PointCloud], comments: Sequence[str] = ()
) -> int:
    """Writes a cloud, or its pieces one after another, with normals, colours and confidence, and
    `comments`, lines of ASCII, in the header.

    The same cloud gives the same bytes. Returns the number of points.
    """
    pieces = iter(cloud if isinstance(cloud, Iterable) else [cloud])
    first = next(pieces, None)
    positions = np.float32 if first is None else first.points.dtype
    dtype = np.dtype([*_vertex(positions).descr, ("confidence", "<f4")])
    count = 0
    with Path(path).open("wb") as file:
        _header(file, dtype, 0, comments=comments)
        for piece in chain([] if first is None else [first], pieces):
            rows = np.empty(len(piece.points), dtype)
            _fill(rows, piece.points, piece.normals, piece.colors)
            rows["confidence"] = piece.confidence
            file.write(rows.tobytes())
            count += len(rows)
        file.seek(0)
        _header(file, dtype, count, comments=comments)
    return count


def read_ply(path: Path) -> PointCloud:
    """A cloud that `write_ply` has written. Raises `InputError` when it cannot be read or lacks a
    property."""
    return _cloud_of(read_ply_vertices(path), path)


def read_ply_pieces(path: Path, rows: int | None = None) -> Iterator[PointCloud]:
    """The same cloud in pieces of `rows` points (default: some 10 MB in memory), one after
    another. Raises `InputError` as `read_ply` does, at the piece where it shows."""
    for piece in _vertices(path, rows or _PIECE):
        yield _cloud_of(_columns(piece), path)


def sample_ply(path: Path, count: int, *, seed: int = 0) -> PointCloud:
    """`count` of the cloud's points in their order, chosen at random from `seed`, each with equal
    chance; the whole cloud when it has no more. The same file gives the same points.

    Memory is that of the sample and a piece. Raises `InputError` as `read_ply` does.
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[PointCloud, NDArray[np.float64]]] = []
    most, held = 1.0, 0
    for piece in _vertices(path, _PIECE):
        drawn = rng.random(len(piece))
        low = np.flatnonzero(drawn < most)
        low = low[_lowest(drawn[low], count)]
        parts.append((_cloud_of(_columns(piece[low]), path), drawn[low]))
        held += len(low)
        if held > 1.25 * count:  # not at every piece: that copies the sample
            parts = [_joined(parts, count)]
            most, held = parts[0][1].max(initial=0.0), count
    return _joined(parts, count)[0] if parts else PointCloud.empty()


def _joined(
    parts: Sequence[tuple[PointCloud, NDArray[np.float64]]], count: int
) -> tuple[PointCloud, NDArray[np.float64]]:
    """The `count` points with the lowest draws, and these."""
    draws = np.concatenate([draws for _, draws in parts])
    keep = _lowest(draws, count)
    return PointCloud.concatenate([cloud for cloud, _ in parts]).select(keep), draws[keep]


def _lowest(draws: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Where the `count` lowest of `draws` (N,) are, in order."""
    if len(draws) <= count:
        return np.arange(len(draws))
    return np.sort(np.argpartition(draws, count - 1)[:count])


def count_ply(path: Path) -> int:
    """Number of a PLY file's vertices, as its header says. Raises `InputError` as `read_ply`."""
    with _refused(path), Path(path).open("rb") as file:
        return _read_header(file)[1]


def _cloud_of(stored: Mapping[str, NDArray[np.generic]], path: Path) -> PointCloud:
    def columns(*names: str) -> NDArray[Any]:
        return np.stack([stored[name] for name in names], axis=1)

    try:
        return PointCloud(
            points=columns("x", "y", "z"),
            normals=columns("nx", "ny", "nz").astype(np.float32),
            colors=columns("red", "green", "blue").astype(np.uint8),
            confidence=stored["confidence"].astype(np.float32),
        )
    except KeyError as error:
        raise InputError(
            f"the PLY file has no {error.args[0]}.",
            subject=path,
            action="Give a cloud with positions, normals, colours and confidence.",
        ) from error


def write_mesh_ply(path: Path, mesh: TriangleMesh) -> None:
    """Writes a triangle mesh with normals and colours. The same mesh gives the same bytes."""
    dtype = _vertex(mesh.vertices.dtype)
    rows = np.empty(len(mesh.vertices), dtype)
    _fill(rows, mesh.vertices, mesh.normals, mesh.colors)
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.triangles
    with Path(path).open("wb") as file:
        _header(file, dtype, len(rows), faces=len(faces))
        file.write(rows.tobytes())
        file.write(faces.tobytes())


def read_ply_vertices(path: Path) -> Mapping[str, NDArray[np.generic]]:
    """The vertex properties of a PLY file (ASCII or binary), one array (N,) a property.

    Vertices must be the file's first element. Raises `InputError` when it cannot be read.
    """
    return _columns(next(_vertices(path, None)))


def _columns(rows: NDArray[np.void]) -> dict[str, NDArray[np.generic]]:
    """One array a property, in this machine's byte order."""
    return {name: rows[name].astype(rows.dtype[name].str[1:]) for name in rows.dtype.names or ()}


def _vertices(path: Path, piece: int | None) -> Iterator[NDArray[np.void]]:
    """The vertices `piece` at a time, or all of them; at least one piece, which may be empty."""
    with _refused(path), Path(path).open("rb") as file:
        form, count, fields = _read_header(file)
        piece = piece or max(count, 1)
        for start in range(0, max(count, 1), piece):
            yield _rows(file, form, min(piece, count - start), fields)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Says of which file it is that it cannot be read."""
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"not a PLY file that can be read ({error}).",
            subject=path,
            action="Give a point cloud as ASCII or binary PLY.",
        ) from error


def _rows(
    file: BinaryIO, form: str, count: int, fields: Sequence[tuple[str, str]]
) -> NDArray[np.void]:
    """The next `count` vertices."""
    order = ">" if form == "binary_big_endian" else "<"
    dtype = np.dtype([(name, order + kind) for name, kind in fields])
    if form == "ascii":
        rows = np.empty(count, dtype)
        table = np.loadtxt(file, max_rows=count, ndmin=2) if count else np.zeros((0, len(fields)))
        if table.shape[1] < len(fields) or len(table) < count:
            raise ValueError("it ends early")
        for column, (name, _) in enumerate(fields):
            rows[name] = table[:, column]
        return rows
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError("it ends early")
    return np.frombuffer(data, dtype)


def read_ply_points(path: Path) -> NDArray[np.float64]:
    """Positions (N, 3) of a PLY file's vertices.

    Raises `InputError` when it cannot be read, has no positions or holds values that are no
    numbers.
    """
    vertices = read_ply_vertices(path)
    if not {"x", "y", "z"} <= set(vertices):
        raise InputError("the PLY file has no x, y, z.", subject=path)
    points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if len(points) == 0:
        raise InputError("the cloud is empty.", subject=path)
    if not np.isfinite(points).all():
        raise InputError("the cloud holds NaN or infinite positions.", subject=path)
    return points


def _header(
    file: BinaryIO,
    dtype: np.dtype[np.void],
    count: int,
    faces: int | None = None,
    comments: Sequence[str] = (),
) -> None:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines.append(f"element vertex {count:0{_COUNT_WIDTH}d}")
    lines += [f"property {_NAMES[dtype[name].str[1:]]} {name}" for name in dtype.names or ()]
    if faces is not None:
        lines += [f"element face {faces}", "property list uchar int vertex_indices"]
    file.write(("\n".join([*lines, "end_header"]) + "\n").encode("ascii"))


def _vertex(positions: DTypeLike) -> np.dtype[np.void]:
    """A vertex with positions of this type, a normal and a colour."""
    place = "<f8" if np.dtype(positions) == np.float64 else "<f4"
    return np.dtype(
        [(name, place) for name in ("x", "y", "z")]
        + [(name, "<f4") for name in ("nx", "ny", "nz")]
        + [(name, "u1") for name in ("red", "green", "blue")]
    )


def _fill(
    rows: NDArray[np.void],
    points: NDArray[np.floating[Any]],
    normals: NDArray[np.float32],
    colors: NDArray[np.uint8],
) -> None:
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
        rows["n" + name] = normals[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = colors[:, channel]


def _read_header(file: BinaryIO) -> tuple[str, int, list[tuple[str, str]]]:
    if file.readline().strip() != b"ply":
        raise ValueError("no PLY header")
    form, count, fields, element = "", -1, [], ""
    while True:
        line = file.readline(1000)
        if not line:
            raise ValueError("the header does not end")
        words = line.decode("ascii", "replace").split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "end_header":
            break
        if words[0] == "format":
            form = words[1]
        elif words[0] == "element":
            if element == "" and words[1] != "vertex":
                raise ValueError("vertices are not its first element")
            element = words[1]
            if element == "vertex":
                count = int(words[2])
        elif words[0] == "property" and element == "vertex":
            if words[1] not in _TYPES:
                raise ValueError(f"vertex property of type {words[1]}")
            fields.append((words[2], _TYPES[words[1]]))
    if form not in ("ascii", "binary_little_endian", "binary_big_endian") or count < 0:
        raise ValueError("format or vertex count is missing")
    return form, count, fields
