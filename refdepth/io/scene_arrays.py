"""A scene as plain arrays in files, which processes map into memory: however many work on it, its
points are there once, and nothing is parsed."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import Scene, SparsePoints, View
from refdepth.writing import save_array

_CONTENTS = "contents.json"
_POINTS = ("xyz", "rgb", "error_px", "track_length")
_VIEWS = ("name", "K", "size", "cam_from_world", "start")
_OBSERVATIONS = ("point_index", "point_xy")
_CHUNK = 1 << 20


def write_scene_arrays(folder: Path, scene: Scene, made_from: str) -> None:
    """Writes a scene of undistorted views of full size into a folder that is not there yet: a
    `.npy` for each array, and `contents.json` with checksums and `made_from`, what it was read
    from.

    The observations of all views lie one after the other; those of view `i` are rows `start[i] :
    start[i + 1]`. Raises `OSError` where they cannot be written.
    """
    folder.mkdir()
    counts = [len(view.point_index) for view in scene.views]
    arrays: dict[str, NDArray[Any]] = {name: getattr(scene.points, name) for name in _POINTS}
    arrays["name"] = np.array([view.name for view in scene.views])
    arrays["K"] = np.array([view.camera.K for view in scene.views])
    arrays["size"] = np.array([(v.camera.width, v.camera.height) for v in scene.views])
    arrays["cam_from_world"] = np.array([view.cam_from_world for view in scene.views])
    arrays["start"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for name in _OBSERVATIONS:
        arrays[name] = np.concatenate([getattr(view, name) for view in scene.views])
    for name, values in arrays.items():
        save_array(_file(folder, name), values)
    checksums = {name: checksum(_file(folder, name)) for name in arrays}
    contents = json.dumps({"made_from": made_from, "checksums": checksums}, indent=1)
    (folder / _CONTENTS).write_text(contents + "\n", encoding="utf-8")


def open_scene_arrays(
    folder: Path, image_dir: Path, mask_dir: Path | None, made_from: str
) -> Scene | None:
    """The scene that `write_scene_arrays` wrote, its photos in `image_dir`, masks as `NAME.png` in
    `mask_dir`; None where the folder holds none, one that was made from something else, or a
    damaged one. Arrays that are written to become this process' own."""
    try:
        contents = json.loads((folder / _CONTENTS).read_bytes())
        if contents["made_from"] != made_from:
            return None
        checksums = contents["checksums"]
        names = (*_POINTS, *_VIEWS, *_OBSERVATIONS)
        if any(checksum(_file(folder, name)) != checksums[name] for name in names):
            return None
        found = {name: _mapped(_file(folder, name)) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    views = []
    for row, name in enumerate(found["name"].tolist()):
        seen = slice(int(found["start"][row]), int(found["start"][row + 1]))
        width, height = found["size"][row].tolist()
        mask_path = None if mask_dir is None else mask_dir / f"{name}.png"
        views.append(
            View(
                name=name,
                camera=PinholeCamera(K=found["K"][row], width=width, height=height),
                cam_from_world=found["cam_from_world"][row],
                point_index=found["point_index"][seen],
                point_xy=found["point_xy"][seen],
                image_path=image_dir / name,
                mask_path=mask_path if mask_path and mask_path.exists() else None,
            )
        )
    return Scene(views, SparsePoints(**{name: found[name] for name in _POINTS}))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _mapped(path: Path) -> NDArray[Any]:
    """An array that shares its memory with all processes that read the file, until it is written
    to."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def checksum(path: Path) -> int:
    """CRC-32 of a file. It is read, not mapped: what is mapped counts as this process' memory from
    then on."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found = zlib.crc32(chunk, found)
    return found
