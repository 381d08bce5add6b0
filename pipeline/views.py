"""The scene of a workspace, and its photos kept in memory only as long as they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path

from refdepth.errors import InputError, RefdepthError, ResourceError
from refdepth.geometry.lens import InputPhoto
from refdepth.geometry.working_view import WorkingView
from refdepth.ingest import NameTable
from refdepth.io.colmap_model import read_scene
from refdepth.io.images import load_photo
from refdepth.io.scene_arrays import checksum, open_scene_arrays, write_scene_arrays
from refdepth.pipeline.environment import release_freed_memory
from refdepth.pipeline.files import TEMPORARY_PREFIX, discard, hash_json, replacing
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.workspace import Workspace
from refdepth.types.scene import Scene, View

UNDISTORTED = Path("sfm") / "undistorted"
_ARRAYS = Path("sfm") / "scene"
"""What was read of it, for all processes to share."""


def load_scene(workspace: Workspace) -> Scene:
    """The scene that the sfm stage left. Stages, report and exports want it one after the other:
    the last one is kept as long as its files stay as they are."""
    return _read_scene(workspace.root, _state(workspace.root / UNDISTORTED))


def forget_scene() -> None:
    """Lets go of it: what was looked at of its points counts as this process' memory."""
    _read_scene.cache_clear()


@lru_cache(maxsize=1)
def _read_scene(root: Path, state: tuple[tuple[str, int, int], ...]) -> Scene:
    """The arrays where they are those of the model, else the model, of which arrays are then
    left."""
    folder, arrays = root / UNDISTORTED, root / _ARRAYS
    model = sorted(path for path in (folder / "sparse").glob("*") if path.is_file())
    made_from = ""
    with suppress(OSError):  # reading the model says it better
        made_from = hash_json({path.name: checksum(path) for path in model})
    masks = folder / "masks" if (folder / "masks").is_dir() else None
    kept = open_scene_arrays(arrays, folder / "images", masks, made_from)
    if kept is not None:
        return kept
    scene = read_scene(folder / "sparse", folder / "images", masks)
    for leftover in arrays.parent.glob(f"{TEMPORARY_PREFIX}*-{arrays.name}"):
        discard(leftover)
    with suppress(ResourceError):  # a scene of this process' own is as good
        with replacing(arrays) as temporary:
            write_scene_arrays(temporary, scene, made_from)
        scene = open_scene_arrays(arrays, folder / "images", masks, made_from) or scene
    release_freed_memory()  # COLMAP's own model
    return scene


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when the model, or which photos have masks, does."""
    files = [*(folder / "sparse").glob("*"), folder / "masks"]
    found = ((path.name, path.stat()) for path in files if path.exists())
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found))


def photo_names(workspace: Workspace) -> NameTable:
    """The photos' own names by the names of views and artifacts; empty, so that views keep theirs,
    where the table of photos is gone."""
    try:
        return NameTable.of(read_table(workspace))
    except InputError:
        return NameTable({})


def input_photos(workspace: Workspace) -> Callable[[View], InputPhoto]:
    """From a view to the photo it was made from and the camera SfM found for that; raises
    `InputError` for one that is not among the prepared photos any more."""
    from refdepth._pycolmap import pycolmap

    model = pycolmap.Reconstruction(str(workspace.stage_dir("sfm") / "sparse"))
    images = {image.name: image for image in model.images.values()}
    rows = {row.name: row for row in read_table(workspace)}

    def photo_of(view: View) -> InputPhoto:
        row = rows.get(view.name)
        if row is None:
            raise InputError(
                "is not among the prepared photos any more.",
                subject=view.name,
                action="Run `refdepth reconstruct` to the end: photos have changed since.",
            )
        camera = model.cameras[images[view.name].camera_id]
        return InputPhoto(
            name=row.original,
            camera_model=camera.model.name,
            width=camera.width,
            height=camera.height,
            camera_params=tuple(camera.params),
            orientation=row.orientation,
        )

    return photo_of


@contextmanager
def errors_by_photo(workspace: Workspace) -> Iterator[None]:
    """Lets an error about a view name the photo as its owner does."""
    try:
        yield
    except RefdepthError as error:
        if error.subject is not None:
            error.subject = photo_names(workspace).own(error.subject)
        raise


def select_views(scene: Scene, patterns: Sequence[str], names: NameTable) -> tuple[str, ...]:
    """Names of the views whose photos match any of `patterns` (see `NameTable.select`); all of them
    when there is no pattern. Raises `InputError` for a pattern that matches nothing."""
    return select_names(scene.names, patterns, names)


def select_names(
    views: Sequence[str], patterns: Sequence[str], names: NameTable
) -> tuple[str, ...]:
    """The same of views known by their names alone."""
    if not patterns:
        return tuple(views)
    table = NameTable({name: names.own(name) for name in views})
    chosen: set[str] = set()
    for pattern in patterns:
        found = table.select(pattern)
        if not found:
            raise InputError(
                "matches none of the views.",
                subject=pattern,
                action=f"Views are named like {table.own(views[0])}.",
            )
        chosen.update(found)
    return tuple(sorted(chosen))


class WorkingViews:
    """Photos on their working grids, the least recently used dropped first."""

    def __init__(self, scene: Scene, *, max_bytes: int, **grid: int) -> None:
        """`grid` holds the limits of `WorkGrid.for_photo`."""
        self._scene = scene
        self._max_bytes = max_bytes
        self._grid = grid
        self._views: OrderedDict[str, WorkingView] = OrderedDict()

    def of(self, view: View) -> WorkingView:
        """A view of the scene on its working grid."""
        return self[view.name]

    def __getitem__(self, name: str) -> WorkingView:
        view = self._views.pop(name, None)
        if view is None:
            view = WorkingView.loaded(partial(load_photo, self._scene[name]), **self._grid)
        self._views[name] = view
        held = sum(view.nbytes for view in self._views.values())  # what is derived adds to it
        while held > self._max_bytes and len(self._views) > 1:
            _, dropped = self._views.popitem(last=False)
            held -= dropped.nbytes
        return view
