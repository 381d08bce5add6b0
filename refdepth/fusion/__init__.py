"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.cloud import fuse, fuse_pieces
from refdepth.fusion.crosscheck import ViewConsistency, check_view
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.fusion.tsdf import fuse_mesh

__all__ = [
    "FusionSettings",
    "MeshSettings",
    "ViewConsistency",
    "check_view",
    "fuse",
    "fuse_mesh",
    "fuse_pieces",
]
