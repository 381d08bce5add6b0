"""COLMAP: models from scenes, depth and normal maps, and dense workspaces that its own tools
continue from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.types.camera import PinholeCamera
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

NORMAL_RADIUS = 0.01
"""Half the window that a pixel's plane is fitted to, in focal lengths. COLMAP's fusion drops pixels
whose normals differ by 10 degrees between views, so the depth's noise has to average out."""
_SAME_SURFACE = 0.02
"""Largest relative step of depth inside that window."""
_PATCH_MATCH_SOURCES = 20
_MAX_HEADER = 64


def to_reconstruction(scene: Scene) -> Any:
    """The scene as a `pycolmap.Reconstruction`: PINHOLE cameras (shared where equal), registered
    images in the scene's order, points with their tracks. Image ids count from 1."""
    from refdepth._pycolmap import pycolmap

    model = pycolmap.Reconstruction()
    camera_ids: dict[tuple[float, ...], int] = {}
    tracks: list[Any] = [pycolmap.Track() for _ in range(len(scene.points))]
    for image_id, view in enumerate(scene.views, start=1):
        key = (*view.camera.K.ravel(), view.camera.width, view.camera.height)
        if key not in camera_ids:
            camera_ids[key] = len(camera_ids) + 1
            model.add_camera_with_trivial_rig(_camera(view.camera, camera_ids[key]))
        model.add_image_with_trivial_frame(
            pycolmap.Image(
                name=view.name,
                keypoints=view.point_xy.reshape(-1, 2),
                camera_id=camera_ids[key],
                image_id=image_id,
            ),
            pycolmap.Rigid3d(view.cam_from_world[:3]),
        )
        for observation, row in enumerate(view.point_index):
            tracks[row].add_element(image_id, observation)
    for row, track in enumerate(tracks):
        if track.length():
            point_id = model.add_point3D(scene.points.xyz[row], track, scene.points.rgb[row])
            model.points3D[point_id].error = scene.points.error_px[row]
    return model


def write_dense_workspace(
    folder: Path,
    scene: Scene,
    load: Callable[[str], DepthMap],
    *,
    model_dir: Path | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes a COLMAP dense workspace as `colmap image_undistorter` and `patch_match_stereo` leave
    it; returns the files. `stereo_fusion`, `poisson_mesher` and `delaunay_mesher` go on from there.

    `load` gives the depth of a view; `names` are the views with depth (default: all). The sparse
    model is a copy of `model_dir` where given, else made from the scene. Normals come from planes
    fitted to the depth, in camera axes.
    """
    names = scene.names if names is None else names
    written = start_dense_workspace(folder, scene, model_dir=model_dir, names=names)
    written += [copy_image(view, folder / "images") for view in scene.views]
    for done, name in enumerate(names):
        written += write_dense_view(folder, scene[name], load(name))
        if progress is not None:
            progress(done + 1, len(names))
    return written


def start_dense_workspace(
    folder: Path, scene: Scene, *, model_dir: Path | None, names: Sequence[str]
) -> list[Path]:
    """Writes the model, the empty folders and the lists of the views with depth; returns the
    files."""
    from refdepth._pycolmap import pycolmap

    model = (
        to_reconstruction(scene) if model_dir is None else pycolmap.Reconstruction(str(model_dir))
    )
    sparse, stereo = folder / "sparse", folder / "stereo"
    for part in (sparse, stereo / "depth_maps", stereo / "normal_maps", folder / "images"):
        part.mkdir(parents=True, exist_ok=True)
    (stereo / "consistency_graphs").mkdir(exist_ok=True)
    model.write(str(sparse))
    fusion, patch_match = stereo / "fusion.cfg", stereo / "patch-match.cfg"
    fusion.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    patch_match.write_text(
        "".join(f"{name}\n__auto__, {_PATCH_MATCH_SOURCES}\n" for name in names), encoding="utf-8"
    )
    return [*sorted(sparse.iterdir()), fusion, patch_match]


def write_dense_view(folder: Path, view: View, depth_map: DepthMap) -> list[Path]:
    """Writes the depth map and the normal map of one view into a dense workspace; returns them."""
    stereo, name = folder / "stereo", f"{view.name}.geometric.bin"
    depth_path, normal_path = stereo / "depth_maps" / name, stereo / "normal_maps" / name
    for path in (depth_path, normal_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_array(depth_path, depth_map.depth)
    write_array(normal_path, normal_map(depth_map.depth, view.camera))
    return [depth_path, normal_path]


def write_array(path: Path, array: NDArray[np.float32]) -> None:
    """Writes a map (height, width) or (height, width, channels) in COLMAP's format: the sizes as
    text, `width&height&channels&`, then float32, one channel after another.

    pycolmap 4.2's `NormalMap.from_array(...).write` interleaves the channels, which COLMAP's own
    readers then take for planes; hence not that.
    """
    planes = np.atleast_3d(array).astype("<f4").transpose(2, 0, 1)
    channels, height, width = planes.shape
    path.write_bytes(f"{width}&{height}&{channels}&".encode() + planes.tobytes())


def read_array(path: Path) -> NDArray[np.float32]:
    """A depth map (height, width) in COLMAP's format. Raises `InputError` when the file is not
    one."""
    try:
        data = Path(path).read_bytes()
        fields = data[:_MAX_HEADER].split(b"&", 3)
        width, height, channels = (int(field) for field in fields[:3])
        start = sum(len(field) + 1 for field in fields[:3])
        values = np.frombuffer(data, "<f4", offset=start)
        if channels != 1 or min(width, height) < 1 or values.size != width * height:
            raise ValueError(f"{width}x{height}x{channels} do not fit {values.size} values")
    except (OSError, ValueError) as error:
        raise InputError(f"not a COLMAP depth map ({error}).", subject=path) from error
    return values.reshape(height, width)


def normal_map(depth: NDArray[np.float32], camera: PinholeCamera) -> NDArray[np.float32]:
    """Normals (height, width, 3) as the workspace holds them: unit length, camera axes, towards
    the camera; zero where undetermined."""
    from refdepth.geometry.normals import estimate_normals

    radius = max(2, round(NORMAL_RADIUS * camera.mean_focal_px))
    return estimate_normals(depth, camera, radius_px=radius, max_ratio=_SAME_SURFACE)


def copy_image(view: View, folder: Path) -> Path:
    """Copies a view's photo into `folder` under its name; returns the copy."""
    copy = folder / view.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(view.image_path, copy)
    return copy


def copy_mask(view: View, folder: Path) -> Path | None:
    """Copies a view's mask into `folder` as `mask_name` says; returns the copy, None where it has
    no mask."""
    if view.mask_path is None:
        return None
    copy = folder / mask_name(view)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(view.mask_path, copy)
    return copy


def mask_name(view: View) -> str:
    """What trainers call the mask of a view: its photo's name with `.png` behind it."""
    return f"{view.name}.png"


def _camera(camera: PinholeCamera, camera_id: int) -> Any:
    from refdepth._pycolmap import pycolmap

    K = camera.K
    return pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]],
        camera_id=camera_id,
    )
