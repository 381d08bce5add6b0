"""True depth and true clouds, from the files in which people have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.ingest import NameTable
from refdepth.ingest.discovery import list_files
from refdepth.io.colmap import read_array
from refdepth.io.depth_files import SUFFIXES, read_depth_file, read_posed_depth
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import Scene

Array = NDArray[np.float64]

COLMAP_ENDINGS = (".geometric.bin", ".photometric.bin")
"""COLMAP's depth maps; the geometric one is taken where both exist."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueDepth:
    """One view's true depth."""

    depth: NDArray[np.float32]
    """Depth along the optical axis (height, width), 0 where unknown."""
    K: Array | None = None
    """Calibration (3, 3) of `depth`'s own grid; None when that grid is the photo's."""
    cam_from_world: Array | None = None
    """True pose (4, 4) in the truth's own world, where known."""
    undistorted: bool = False
    """Whether a grid without `K` is that of the undistorted photo rather than the input photo."""

    def pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
        """Rows, columns and depths (N,) of the known pixels."""
        rows, columns = np.nonzero(self.depth > 0)
        return rows, columns, self.depth[rows, columns].astype(np.float64)

    def points(self) -> Array:
        """Known pixels as points (N, 3) in the truth's world.

        Raises `ValueError` without calibration and pose.
        """
        if self.K is None or self.cam_from_world is None:
            raise ValueError("points need K and cam_from_world")
        rows, columns, z = self.pixels()
        xy = np.stack([columns + 0.5, rows + 0.5], axis=1)
        camera = self.camera()
        world_from_cam = np.linalg.inv(self.cam_from_world)
        return np.asarray(
            camera.unproject(z, xy) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        )

    def camera(self) -> PinholeCamera:
        """Camera of `depth`'s own grid. Raises `ValueError` when it is not known."""
        if self.K is None:
            raise ValueError("the truth has no calibration of its own")
        height, width = self.depth.shape
        return PinholeCamera(K=self.K, width=width, height=height)


class GroundTruth:
    """True depth by view name, read when asked for.

    `metres_per_unit` is the length of one unit of the truth, None where it is not known.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: Sequence[str],
        read: Callable[[Path], TrueDepth],
        *,
        kind: str,
        metres_per_unit: float | None,
        names: NameTable | None = None,
    ) -> None:
        """`names` are the photos' names by view. Without it each view goes by its own name, and
        `of` makes the views of a scene the table."""
        self.subject = folder
        self._suffixes = suffixes
        self._read = read
        self.kind = kind
        self.metres_per_unit = metres_per_unit
        self.names = names
        self._files: Mapping[str, Path] | None = None

    def of(self, scene: Scene) -> GroundTruth:
        """The same truth for the views of `scene`, which are its names where it has none yet."""
        if self.names is not None:
            return self
        found = copy(self)
        found.names = NameTable.plain(scene.names)
        return found

    def own(self, view: str) -> str:
        """What the photo of a view is called."""
        return view if self.names is None else self.names.own(view)

    def find(self, view: str) -> Path | None:
        """The file of a view: named like its photo with or without the ending, folders included or
        not, perhaps in folders of its own.

        Raises `InputError` when a file may belong to several photos (see `NameTable.files`).
        """
        if self.names is None:
            return self._matched(NameTable.plain([view])).get(view)
        if self._files is None:
            self._files = self._matched(self.names)
        return self._files.get(view)

    def _matched(self, names: NameTable) -> Mapping[str, Path]:
        return names.files(self.subject, self._suffixes, anywhere=True).files

    def load(self, view: str) -> TrueDepth | None:
        """True depth of a view; None when there is none. Raises `InputError` for a bad file."""
        path = self.find(view)
        return None if path is None else self._read(path)


def open_ground_truth(
    path: Path,
    names: NameTable | None = None,
    *,
    png_scale: float = 0.001,
    metres_per_unit: float | None = None,
) -> GroundTruth:
    """True depth in a folder: `.npz` with `depth` and optionally `K` and `cam_from_world`, 16-bit
    `.png` (times `png_scale`), `.npy`, `.tiff`, or COLMAP's `.geometric.bin` / `.photometric.bin`.

    Of several kinds the earlier of `SUFFIXES` is taken that has a file for one of `names`.

    Units: metres, except COLMAP's, which are those of its model, unless `metres_per_unit` says
    otherwise. Without `K`, pixels are those of the prepared photo. `names` are the photos' names by
    view; without it the truth is named like the views.

    Raises `InputError` when the folder holds none of these.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            "is not a folder of ground truth.",
            subject=path,
            action="Give a folder of .npz, .png or COLMAP depth maps, or a cloud as .ply.",
        )
    if path.joinpath("depth_maps").is_dir():
        path = path / "depth_maps"
    elif path.joinpath("stereo", "depth_maps").is_dir():
        path = path / "stereo" / "depth_maps"
    if list_files(path, COLMAP_ENDINGS):
        return GroundTruth(
            path,
            COLMAP_ENDINGS,
            lambda file: TrueDepth(depth=_clean(read_array(file), file), undistorted=True),
            kind="COLMAP depth maps",
            metres_per_unit=metres_per_unit,
            names=names,
        )
    there = [suffix for suffix in SUFFIXES if list_files(path, (suffix,))]
    if not there:
        raise InputError(
            "holds no ground truth.",
            subject=path,
            action=f"It needs depth maps ({', '.join(SUFFIXES)}, {', '.join(COLMAP_ENDINGS)}).",
        )
    if names is not None and len(there) > 1:  # calibration and poses may lie beside them
        there = [s for s in there if names.files(path, (s,), anywhere=True).files] or there
    suffix = there[0]
    kind = f"{suffix} depth maps"
    if suffix == ".png":
        kind += f" of {png_scale:g} m a level"
    return GroundTruth(
        path,
        (suffix,),
        partial(_read_plain, png_scale=png_scale),
        kind=kind,
        metres_per_unit=1.0 if metres_per_unit is None else metres_per_unit,
        names=names,
    )


def _read_plain(path: Path, *, png_scale: float) -> TrueDepth:
    if path.suffix.lower() == ".npz":
        depth, K, cam_from_world = read_posed_depth(path)
        return TrueDepth(depth=_clean(depth, path), K=K, cam_from_world=cam_from_world)
    return TrueDepth(depth=_clean(read_depth_file(path, png_scale=png_scale), path))


def _clean(depth: NDArray[np.floating], path: Path) -> NDArray[np.float32]:
    """float32 with 0 for what is not a positive number."""
    if depth.ndim != 2:
        raise InputError(f"depth has shape {depth.shape}, not (height, width).", subject=path)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(depth) & (depth > 0)
    return np.where(usable, depth, 0).astype(np.float32)
