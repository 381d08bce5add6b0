"""The coordinate reference system of a COPC file where every reader looks for it.

copclib writes it as an extended record behind the points. PDAL reads that; QGIS looks through the
records before the points alone. So it is put there: the points move, and with them all offsets.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

_HEADER, _RECORD = 375, 54
"""Bytes of a LAS 1.4 header, and of a variable length record's own."""
_POINTS, _RECORDS, _EXTENDED = 96, 100, 235
"""Where the header has the offset of the points (u32), the number of records (u32) and the offset
of the extended records (u64)."""
_ROOT = _HEADER + _RECORD + 40
"""Where the COPC record, the file's first, has offset and size of the root page (u64 each)."""
_ENTRY = struct.Struct("<iiiiQii")
"""A node of the hierarchy: level, x, y, z, offset, size in bytes, number of points (-1: a page)."""


def insert_wkt(path: Path, wkt: str) -> None:
    """Puts a coordinate reference system (OGC WKT 1) into a COPC file that has none: the record
    `LASF_Projection` 2112 of LAS 1.4, before the points. The file is copied once."""
    text = wkt.encode() + b"\0"
    record = struct.pack("<H16sHH32s", 0, b"LASF_Projection", 2112, len(text), b"OGC WKT") + text
    beside = path.with_name(f"{path.name}.crs")
    with path.open("rb") as source, beside.open("w+b") as target:
        start = bytearray(source.read(_HEADER))
        (points,) = struct.unpack_from("<I", start, _POINTS)
        start += source.read(points - _HEADER)
        moved = len(record)
        for place, kind, more in (
            (_POINTS, "<I", moved),
            (_RECORDS, "<I", 1),
            (_EXTENDED, "<Q", moved),
            (_ROOT, "<Q", moved),
        ):
            struct.pack_into(kind, start, place, struct.unpack_from(kind, start, place)[0] + more)
        (chunks,) = struct.unpack("<q", source.read(8))  # where LAZ's table of chunks is; -1: last
        target.write(start + record + struct.pack("<q", chunks + moved if chunks > 0 else chunks))
        shutil.copyfileobj(source, target, 1 << 22)
        pages = [struct.unpack_from("<QQ", start, _ROOT)]
        while pages:
            offset, size = pages.pop()
            target.seek(offset)
            page = bytearray(target.read(size))
            for place in range(0, size, _ENTRY.size):
                *key, at, length, count = _ENTRY.unpack_from(page, place)
                if length > 0:
                    _ENTRY.pack_into(page, place, *key, at + moved, length, count)
                if count == -1:
                    pages.append((at + moved, length))
            target.seek(offset)
            target.write(page)
    beside.replace(path)
