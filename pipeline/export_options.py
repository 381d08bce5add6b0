"""What can be exported, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from refdepth.io.depth_sets import METRES, SFM_UNITS, DepthFile, DepthSense
from refdepth.io.splat import MAX_POINTS


class ExportFormat(StrEnum):
    """What a workspace can be exported as."""

    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    DEPTH = "depth"
    SPLAT = "splat"
    GRAPHDECO = "graphdeco"
    GSPLAT = "gsplat"
    OPENMVS = "openmvs"
    MESH = "mesh"
    CLOUD = "cloud"


class CloudFile(StrEnum):
    """Files of the `cloud` export."""

    PLY = "ply"
    LAS = "las"
    LAZ = "laz"
    COPC = "copc"
    E57 = "e57"
    SAMPLE = "ply-sample"


class Grid(StrEnum):
    """Whose pixels the maps of the `depth` export have."""

    UNDISTORTED = "undistorted"
    ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported of each depth map and cloud, and how."""

    min_confidence: float = 0.0
    """Less sure pixels and points are left out."""
    consistent: bool = False
    """Whether the depth is the one that other views confirm and agree on (the fuse stage's)."""
    depth_files: tuple[DepthFile, ...] = (DepthFile.PNG16, DepthFile.PICTURES)
    ray_depth: bool = False
    """Whether the `depth` export holds distances along the rays instead of z."""
    grid: Grid = Grid.UNDISTORTED
    """Whose pixels the maps of the `depth` export have."""
    cloud_files: tuple[CloudFile, ...] = (CloudFile.PLY,)
    initial_points: int = MAX_POINTS
    """Most initial points of the exports for splat trainers."""
    metres: bool = False
    """Whether lengths are metres and z is up, where up is known; else the world is the scene's own,
    in SfM units."""

    @property
    def unit(self) -> str:
        """The unit of lengths in words."""
        return METRES if self.metres else SFM_UNITS

    @property
    def sense(self) -> DepthSense:
        """What the values of the `depth` export are."""
        return DepthSense(
            ray_depth=self.ray_depth, original=self.grid is Grid.ORIGINAL, unit=self.unit
        )
