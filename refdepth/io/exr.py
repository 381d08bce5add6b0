"""Depth, confidence, normals and positions of a view as one OpenEXR file (extra `exr`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import UnavailableError
from refdepth.io.json_text import to_json
from refdepth.writing import refused

Map = NDArray[np.float32]


def write_exr(path: Path, channels: Mapping[str, Map], about: Mapping[str, Any]) -> None:
    """Writes maps (height, width), or (height, width, 3) as the layers `NAME.X`, `NAME.Y` and
    `NAME.Z`, as 32-bit float channels with lossless compression. `about` goes into the header: each
    entry as the attribute `refdepth.NAME`, text as it is, all else as JSON.

    Raises `UnavailableError` when OpenEXR is not installed, `OSError` when the file cannot be
    written.
    """
    openexr = load_openexr()
    planes: dict[str, Map] = {}
    for name, values in channels.items():
        parts = {name: values} if values.ndim == 2 else _layers(name, values)
        planes |= {key: np.ascontiguousarray(part, np.float32) for key, part in parts.items()}
    header: dict[str, Any] = {
        "compression": openexr.ZIP_COMPRESSION,
        "type": openexr.scanlineimage,
    }
    for name, value in about.items():
        header[f"refdepth.{name}"] = value if isinstance(value, str) else to_json(value)
    with openexr.File(header, planes) as file:
        try:
            file.write(str(path))
        except RuntimeError as error:
            raise refused(path, error) from error


def load_openexr() -> Any:
    """The library. Raises `UnavailableError` when it is not installed."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UnavailableError(
            "is not installed; EXR needs it.",
            subject="OpenEXR",
            action="pip install 'refdepth[exr]', or export depth as tiff32 or npz.",
        ) from error
    return OpenEXR


def _layers(name: str, values: Map) -> dict[str, Map]:
    return {f"{name}.{axis}": values[..., number] for number, axis in enumerate("XYZ")}
