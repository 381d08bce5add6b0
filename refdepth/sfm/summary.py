"""What structure from motion reports about its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from refdepth.sfm.focal import FocalStart


@dataclass(frozen=True, kw_only=True)
class SfmSummary:
    """The outcome of structure from motion, as plain values."""

    registered: tuple[str, ...]
    """Names of the photos with a pose."""
    failed: tuple[str, ...]
    """Names of the photos without one."""
    points: int
    """Triangulated points."""
    mean_reprojection_error_px: float
    """Mean reprojection error of the points, pixels."""
    mean_track_length: float
    """Mean number of photos that see a point."""
    cameras: int
    """Different cameras among the registered photos."""
    other_models: tuple[tuple[str, ...], ...] = ()
    """Photos of each model that was not chosen, largest first."""
    matching: str = ""
    """How pairs were chosen: exhaustive, sequential, spatial or retrieval; empty for a given model.
    """
    focal_starts: tuple[FocalStart, ...] = ()
    """What each camera started from; empty for given cameras and for faces of panoramas."""
    warnings: tuple[str, ...] = field(default=())
    """What a user should know, in plain words."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)
