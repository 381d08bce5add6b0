"""What can be exported, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from refdepth.io.depth_sets import DepthFile


class ExportFormat(StrEnum):
    """What a workspace can be exported as."""

    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    DEPTH = "depth"
    SPLAT = "splat"
    MESH = "mesh"
    CLOUD = "cloud"


class CloudFile(StrEnum):
    """Files of the `cloud` export."""

    PLY = "ply"
    LAS = "las"
    LAZ = "laz"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported of each depth map and cloud, and how."""

    min_confidence: float = 0.0
    """Less sure pixels and points are left out."""
    consistent: bool = False
    """Whether the depth is the one that other views confirm and agree on (the fuse stage's)."""
    depth_files: tuple[DepthFile, ...] = (DepthFile.PNG16, DepthFile.PICTURES)
    cloud_files: tuple[CloudFile, ...] = (CloudFile.PLY,)
