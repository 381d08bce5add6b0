"""Whether the files of a binary COLMAP model are whole: pycolmap reads past the end of a cut file
and takes what it finds for numbers. Layout: COLMAP's documentation, "Output format"."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from refdepth.errors import InputError

_PARAMETERS = {
    **{0: 3, 1: 4, 2: 4, 3: 5, 4: 8, 5: 8, 6: 12, 7: 5, 8: 4, 9: 5, 10: 12},
    **{11: 16, 12: 4, 13: 5, 14: 3, 15: 4, 16: 6, 17: 2},
}
"""Number of parameters by model id; models of newer COLMAP versions are left to pycolmap."""


def check_whole(folder: Path) -> None:
    """Raises `InputError` when `cameras.bin`, `images.bin` or `points3D.bin` in `folder` ends
    before all it announces. Files that are not there are passed over."""
    walks: dict[str, Callable[[bytes, int], int]] = {
        "cameras": _camera_end,
        "images": _image_end,
        "points3D": _point_end,
    }
    for name, end_of_entry in walks.items():
        path = folder / f"{name}.bin"
        if path.is_file():
            count, whole = _count_entries(path.read_bytes(), end_of_entry)
            if count is None or whole < count:
                raise InputError(
                    f"ends in the middle: {whole} of {count or 'its'} entries are whole.",
                    subject=path,
                    action="Copy or export the model again.",
                )


def _count_entries(
    content: bytes, end_of_entry: Callable[[bytes, int], int]
) -> tuple[int | None, int]:
    """How many entries are announced (None: not even that) and how many are there."""
    if len(content) < 8:
        return None, 0
    (count,) = struct.unpack_from("<Q", content, 0)
    offset, whole = 8, 0
    while whole < count:
        try:
            offset = end_of_entry(content, offset)
        except KeyError:  # a camera model we do not know: pycolmap will say whether it does
            return count, count
        except (struct.error, ValueError):
            break
        if offset > len(content):
            break
        whole += 1
    return count, whole


def _camera_end(content: bytes, offset: int) -> int:
    (model,) = struct.unpack_from("<i", content, offset + 4)
    return offset + 24 + 8 * _PARAMETERS[model]


def _image_end(content: bytes, offset: int) -> int:
    name_end = content.index(b"\0", offset + 64)
    (points,) = struct.unpack_from("<Q", content, name_end + 1)
    return int(name_end + 9 + 24 * points)


def _point_end(content: bytes, offset: int) -> int:
    (track,) = struct.unpack_from("<Q", content, offset + 43)
    return int(offset + 51 + 8 * track)
