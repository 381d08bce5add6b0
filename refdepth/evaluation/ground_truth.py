"""True depth and true clouds, from the files in which people have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.io.colmap import read_array
from refdepth.io.depth_files import SUFFIXES, read_depth_file, read_posed_depth
from refdepth.types.camera import PinholeCamera

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
        files: dict[str, Path],
        read: Callable[[Path], TrueDepth],
        *,
        kind: str,
        subject: Path,
        metres_per_unit: float | None,
    ) -> None:
        self._files = files
        self._read = read
        self.kind = kind
        self.subject = subject
        self.metres_per_unit = metres_per_unit

    def __len__(self) -> int:
        return len(self._files)

    def find(self, view: str) -> Path | None:
        """The file of a view: named like the photo with or without its ending, folders included or
        not."""
        plain = view.rsplit(".", 1)[0] if "." in view.rsplit("/", 1)[-1] else view
        for key in (view, plain, view.rsplit("/", 1)[-1], plain.rsplit("/", 1)[-1]):
            if key in self._files:
                return self._files[key]
        return None

    def load(self, view: str) -> TrueDepth | None:
        """True depth of a view; None when there is none. Raises `InputError` for a bad file."""
        path = self.find(view)
        return None if path is None else self._read(path)


def open_ground_truth(
    path: Path, *, png_scale: float = 0.001, metres_per_unit: float | None = None
) -> GroundTruth:
    """True depth in a folder: `.npz` with `depth` and optionally `K` and `cam_from_world`, 16-bit
    `.png` (times `png_scale`), `.npy`, `.tiff`, or COLMAP's `.geometric.bin` / `.photometric.bin`.

    Units: metres, except COLMAP's, which are those of its model, unless `metres_per_unit` says
    otherwise. Without `K`, pixels are those of the prepared photo.

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
    files: dict[str, Path] = {}
    for ending in reversed(COLMAP_ENDINGS):
        files |= _by_name(path, ending)
    if not files:
        return _plain(path, png_scale, 1.0 if metres_per_unit is None else metres_per_unit)
    return GroundTruth(
        files,
        lambda file: TrueDepth(depth=_clean(read_array(file), file), undistorted=True),
        kind="COLMAP depth maps",
        subject=path,
        metres_per_unit=metres_per_unit,
    )


def _plain(path: Path, png_scale: float, metres_per_unit: float) -> GroundTruth:
    for suffix in SUFFIXES:
        files = _by_name(path, suffix)
        if not files:
            continue

        def read(file: Path) -> TrueDepth:
            if file.suffix.lower() == ".npz":
                depth, K, cam_from_world = read_posed_depth(file)
                return TrueDepth(depth=_clean(depth, file), K=K, cam_from_world=cam_from_world)
            return TrueDepth(depth=_clean(read_depth_file(file, png_scale=png_scale), file))

        kind = f"{suffix} depth maps"
        if suffix == ".png":
            kind += f" of {png_scale:g} m a level"
        return GroundTruth(files, read, kind=kind, subject=path, metres_per_unit=metres_per_unit)
    raise InputError(
        "holds no ground truth.",
        subject=path,
        action=f"It needs depth maps ({', '.join(SUFFIXES)}, {', '.join(COLMAP_ENDINGS)}).",
    )


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Files by their path below `folder` without `ending`, and by bare name where that is
    unique."""
    found = sorted(p for p in folder.rglob(f"*{ending}") if p.is_file())
    out = {p.relative_to(folder).as_posix()[: -len(ending)]: p for p in found}
    bare = [p.name[: -len(ending)] for p in found]
    for path, name in zip(found, bare, strict=True):
        if bare.count(name) == 1:
            out.setdefault(name, path)
    return out


def _clean(depth: NDArray[np.floating], path: Path) -> NDArray[np.float32]:
    """float32 with 0 for what is not a positive number."""
    if depth.ndim != 2:
        raise InputError(f"depth has shape {depth.shape}, not (height, width).", subject=path)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(depth) & (depth > 0)
    return np.where(usable, depth, 0).astype(np.float32)
