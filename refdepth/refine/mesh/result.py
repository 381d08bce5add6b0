"""What gradient steps on the mesh leave, and what they are refused for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, namespace, put_like
from refdepth.geometry.grid import by_strips
from refdepth.geometry.working_view import WorkingView
from refdepth.render import Renderer


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceResult:
    """Depth after gradient steps."""

    depth: Array
    """Refined depth (H, W); as given where nothing is known or the mask says no."""
    record: dict[str, Any]
    """Steps, losses, mesh size, seconds, flags; JSON-able."""


def unchanged(depth: Array, flag: str) -> SurfaceResult:
    """`depth` as it was, and why."""
    return SurfaceResult(depth=depth, record={"iterations": 0, "flags": [flag]})


def moved(depth: Array, change: Array, mask: NDArray[np.bool_] | None) -> Array:
    """`depth` after a change of its log (H, W), where it is known and `mask` allows it."""
    xp = namespace(depth)
    moving = depth > 0 if mask is None else (depth > 0) & put_like(mask, depth)
    return by_strips(lambda a, b, c: xp.where(c, a * xp.exp(b), a), depth, change, moving)


def summary(
    solver: str,
    renderer: Renderer,
    sources: Sequence[WorkingView],
    triangles: int,
    levels: list[dict[str, Any]],
    began: float,
) -> dict[str, Any]:
    """The record of steps that began at `began` (`time.perf_counter`)."""
    return {
        "solver": solver,
        "renderer": renderer.name,
        "device": str(renderer.device),
        "iterations": sum(level["steps"] for level in levels),
        "sources": len(sources),
        "triangles": triangles,
        "levels": levels,
        "seconds": round(time.perf_counter() - began, 3),
        "flags": [],
    }


def check_depth(ref: WorkingView, **maps: Array) -> None:
    """Raises `ValueError` naming the map that is not float32 in the photo's grid."""
    for name, value in maps.items():
        if tuple(value.shape) != ref.grid.photo.shape or value.dtype != namespace(value).float32:
            raise ValueError(
                f"{name} must be float32 {ref.grid.photo.shape}, "
                f"not {value.dtype} {tuple(value.shape)}"
            )
