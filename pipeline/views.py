"""The scene of a workspace, and its photos kept in memory only as long as they are needed."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from refdepth.errors import InputError
from refdepth.pipeline.workspace import Workspace
from refdepth.types.scene import PosedImage, Scene

UNDISTORTED = Path("sfm") / "undistorted"


def load_scene(workspace: Workspace) -> Scene:
    """The scene that the sfm stage left."""
    folder = workspace.root / UNDISTORTED
    masks = folder / "masks"
    return Scene.from_colmap(
        folder / "sparse", folder / "images", masks if masks.is_dir() else None
    )


def select_views(scene: Scene, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the views that match any of `patterns` (with or without the file ending); all of
    them when there is no pattern. Raises `InputError` for a pattern that matches nothing."""
    return select_names(scene.names, patterns)


def select_names(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The same of views known by their names alone."""
    if not patterns:
        return tuple(names)
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            name
            for name in names
            if fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(name.rsplit(".", 1)[0], pattern)
        }
        if not found:
            raise InputError(
                "matches none of the views.",
                subject=pattern,
                action=f"Views are named like {names[0]}.",
            )
        chosen |= found
    return tuple(sorted(chosen))


class PhotoCache:
    """Loaded photos, the least recently used dropped first."""

    def __init__(self, scene: Scene, *, max_bytes: int) -> None:
        self._scene = scene
        self._max_bytes = max_bytes
        self._photos: OrderedDict[str, PosedImage] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, name: str) -> PosedImage:
        photo = self._photos.pop(name, None)
        if photo is None:
            photo = self._scene[name].load()
            self._bytes += photo.image.nbytes
        self._photos[name] = photo
        while self._bytes > self._max_bytes and len(self._photos) > 1:
            _, dropped = self._photos.popitem(last=False)
            self._bytes -= dropped.image.nbytes
        return photo
