"""Depth maps and priors as files: `.npy`, `.npz`, float TIFF, 16-bit PNG."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from refdepth.errors import ConfigurationError, InputError
from refdepth.io.arrays import read_values
from refdepth.types.camera import PinholeCamera
from refdepth.writing import save_array, save_picture

SUFFIXES = (".npy", ".npz", ".tiff", ".tif", ".png")
"""Readable formats. Where a map exists in several, the earlier is taken."""

MILLIMETRE = 0.001
"""Depth of one grey level in most 16-bit depth PNGs, metres."""

_MAX_LEVEL = (1 << 16) - 1
_KEY = "depth"
_IMAGE_DESCRIPTION = 270
"""TIFF's tag for text about the picture."""


def read_depth_file(path: Path, *, png_scale: float = MILLIMETRE) -> NDArray[np.float32]:
    """The map in a file, float32 (height, width), NaN where the file holds NaN or infinity.

    Values are as stored, a 16-bit picture's times `png_scale`. What 0 means is the caller's to
    say. An `.npz` holds the map as `depth` or as its only array.

    Raises `InputError` for files that cannot be read, are not one number a pixel, or hold no
    finite value.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            "not a depth map format.", subject=path, action=f"Use one of {', '.join(SUFFIXES)}."
        )
    values = read_values(path, _KEY, partial(_load_picture, png_scale=png_scale), what="depth map")
    return _checked(values, path)


def write_depth_file(
    path: Path, depth: NDArray[Any], *, png_scale: float = MILLIMETRE, about: str = ""
) -> None:
    """Writes a map (height, width) in the format of the suffix; `.npz` under the key `depth`.

    A 16-bit PNG holds depth / `png_scale`, rounded, and 0 where depth is unknown (0 or NaN).
    `about` says what the values are, in PNG's text `Description` and TIFF's ImageDescription.
    Raises `ConfigurationError` for an unknown suffix or depth that 16 bits cannot hold.
    """
    path = Path(path)
    values = np.asarray(depth, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"depth must be (height, width), not {values.shape}")
    match path.suffix.lower():
        case ".npy":
            save_array(path, values)
        case ".npz":
            np.savez(path, depth=values)
        case ".tif" | ".tiff":
            text = {_IMAGE_DESCRIPTION: about} if about else {}
            save_picture(Image.fromarray(values), path, tiffinfo=text)
        case ".png":
            levels = np.round(np.nan_to_num(values, posinf=0, neginf=0) / png_scale)
            if levels.min() < 0 or levels.max() > _MAX_LEVEL:
                raise ConfigurationError(
                    f"depth from {values.min():g} to {values.max():g} does not fit 16 bits at "
                    f"{png_scale:g} a level.",
                    subject=path,
                    action="Choose a coarser scale, or another format.",
                )
            write_levels(path, levels.astype(np.uint16), about=about)
        case suffix:
            raise ConfigurationError(
                f"cannot write depth as {suffix!r}.",
                subject=path,
                action=f"Use one of {', '.join(SUFFIXES)}.",
            )


def write_levels(
    path: Path, levels: NDArray[np.uint16] | NDArray[np.uint8], *, about: str = ""
) -> None:
    """Writes grey levels (height, width), or 8-bit RGB (height, width, 3), as PNG as they are, with
    `about` as its text `Description`."""
    text = PngInfo()
    if about:
        text.add_text("Description", about)
    save_picture(Image.fromarray(levels), path, format="PNG", pnginfo=text)


def read_posed_depth(
    path: Path,
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """An `.npz` of depth with its camera: the map as `read_depth_file` gives it, `K` (3, 3) and
    `cam_from_world` (4, 4), each None where the file has none. A (3, 4) pose is completed.

    Raises `InputError` when the map cannot be read or the camera cannot be used.
    """
    depth = read_depth_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            K = _matrix(archive, "K", (3, 3))
            cam_from_world = _matrix(archive, "cam_from_world", (4, 4))
        if K is not None:
            PinholeCamera(K=K, width=depth.shape[1], height=depth.shape[0])
    except (OSError, ValueError) as error:
        raise InputError(
            f"its camera cannot be used ({error}).",
            subject=path,
            action="K must be (3, 3) and cam_from_world (4, 4), or left out.",
        ) from error
    return depth, K, cam_from_world


def write_posed_depth(
    path: Path, depth: NDArray[np.float32], camera: PinholeCamera, cam_from_world: ArrayLike
) -> None:
    """Writes depth (height, width) with its camera and pose (4, 4) as a compressed `.npz`."""
    np.savez_compressed(path, depth=depth, K=camera.K, cam_from_world=np.asarray(cam_from_world))


def _matrix(archive: Any, key: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    if key not in archive:
        return None
    matrix = np.asarray(archive[key], dtype=np.float64)
    if key == "cam_from_world" and matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != shape or not np.isfinite(matrix).all():
        raise ValueError(f"{key} is not a finite {shape} matrix")
    return matrix


def _load_picture(path: Path, png_scale: float) -> NDArray[Any]:
    with Image.open(path, formats=("PNG", "TIFF")) as picture:
        if picture.mode == "F":
            return np.asarray(picture)
        if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
            return np.asarray(picture).astype(np.float64) * png_scale
        raise ValueError(f"its pixels are {picture.mode!r}, neither 16-bit grey nor float")


def _checked(values: NDArray[Any], path: Path) -> NDArray[np.float32]:
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
        raise InputError(
            f"is {values.dtype} {values.shape}, not one number a pixel.",
            subject=path,
            action="Give an array of shape (height, width).",
        )
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    result[~np.isfinite(result)] = np.nan
    if np.isnan(result).all():
        raise InputError(
            "holds no finite value.", subject=path, action="Give another map, or leave it out."
        )
    return result
