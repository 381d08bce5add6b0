"""The scene of a workspace, and its photos kept in memory only as long as they are needed."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.geometry.working_view import WorkingView
from refdepth.io.colmap_model import read_scene
from refdepth.io.images import load_photo
from refdepth.pipeline.workspace import Workspace
from refdepth.types.scene import Scene

UNDISTORTED = Path("sfm") / "undistorted"


def load_scene(workspace: Workspace) -> Scene:
    """The scene that the sfm stage left."""
    folder = workspace.root / UNDISTORTED
    masks = folder / "masks"
    return read_scene(folder / "sparse", folder / "images", masks if masks.is_dir() else None)


def select_views(scene: Scene, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the views that match any of `patterns` (with or without the file ending); all of
    them when there is no pattern. Raises `InputError` for a pattern that matches nothing."""
    if not patterns:
        return scene.names
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            name
            for name in scene.names
            if fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(name.rsplit(".", 1)[0], pattern)
        }
        if not found:
            raise InputError(
                "matches none of the views.",
                subject=pattern,
                action=f"Views are named like {scene.names[0]}.",
            )
        chosen |= found
    return tuple(sorted(chosen))


class WorkingViews:
    """Photos on their working grids, the least recently used dropped first."""

    def __init__(self, scene: Scene, *, max_bytes: int, **grid: int) -> None:
        """`grid` holds the limits of `WorkGrid.for_photo`."""
        self._scene = scene
        self._max_bytes = max_bytes
        self._grid = grid
        self._views: OrderedDict[str, WorkingView] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, name: str) -> WorkingView:
        view = self._views.pop(name, None)
        if view is None:
            found, load = self._scene[name], partial(load_photo, self._scene[name])
            view = WorkingView(load(), WorkGrid.for_photo(found.camera, **self._grid), load)
            self._bytes += view.nbytes
        self._views[name] = view
        while self._bytes > self._max_bytes and len(self._views) > 1:
            _, dropped = self._views.popitem(last=False)
            self._bytes -= dropped.nbytes
        return view
