"""Inverse depth as the trainer of graphdeco-inria/gaussian-splatting reads it (`--depths depths`).

For an image `NAME.SUFFIX` it reads `depths/NAME.png`, 16 bits, and `scale` and `offset` of `NAME`
in `sparse/0/depth_params.json`:

    inverse_depth = png / 2**16 * scale + offset

so the divisor is 65536, not 65535. It leaves a picture's depth out whose scale is less than a fifth
or more than five times the median of the positive ones. It has no code for unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refdepth.errors import InputError
from refdepth.io.depth_files import write_levels
from refdepth.io.json_text import to_json
from refdepth.types.depth_map import DepthMap

PARAMS = "sparse/0/depth_params.json"
_DIVISOR = 1 << 16
_MAX_LEVEL = _DIVISOR - 1
_LEAST_SCALE = 0.25
"""Of the largest scale: so none is a fifth of, or five times, the median."""


def stem(name: str) -> str:
    """What the trainer calls the depth of an image: its name up to the last dot."""
    return name.rpartition(".")[0] or name


def check_stems(names: Sequence[str]) -> None:
    """Raises `InputError` where two images would share one depth file."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(stem(name), name)
        if other != name:
            raise InputError(
                f"and {other} would share the depth file depths/{stem(name)}.png.",
                subject=name,
                action="Rename one of the photos, or export another format.",
            )


def largest_inverse(depth_map: DepthMap) -> float:
    """Inverse of the smallest known depth; 0 where none is known."""
    known = depth_map.depth[depth_map.valid]
    return float(1 / known.min().astype(np.float64)) if known.size else 0.0


def inverse_scale(own: float, top: float) -> float:
    """`scale` of a picture from its `largest_inverse` and that of all pictures: such that level
    65535 is its own, but not below a quarter of the largest scale, as the trainer would leave the
    picture out; 0, so that it does, where no depth is known."""
    return max(own, _LEAST_SCALE * top) * _DIVISOR / _MAX_LEVEL if own > 0 else 0.0


def write_inverse_depth(folder: Path, name: str, depth_map: DepthMap, scale: float) -> float:
    """Writes `depths/NAME.png`; returns the share of its pixels whose depth is unknown. They are 0,
    which the trainer takes for infinitely far; known depth has 1 and more."""
    known = depth_map.valid
    levels = np.zeros(known.shape, np.uint16)
    if scale > 0:
        inverse = 1 / depth_map.depth[known].astype(np.float64)
        levels[known] = np.clip(np.rint(inverse * (_DIVISOR / scale)), 1, _MAX_LEVEL)
    path = folder / "depths" / f"{stem(name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = (
        "inverse depth along the optical axis, 1 / SfM units: level / 65536 * scale; scale:"
        f" {scale!r}; unknown: 0; grid: undistorted photo"
    )
    write_levels(path, levels, about=about)
    return float(1 - known.mean())


def write_depth_params(folder: Path, found: Mapping[str, tuple[float, float]]) -> None:
    """Writes `depth_params.json` from scale and unknown share of each picture, by name. The trainer
    takes every entry for a picture; the share it does not read."""
    params = {
        stem(name): {"scale": scale, "offset": 0.0, "unknown_share": unknown}
        for name, (scale, unknown) in found.items()
    }
    path = folder / PARAMS
    path.write_text(to_json(params, indent=1) + "\n", encoding="utf-8")
