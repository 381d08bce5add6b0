"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.cloud import FusedCloud, fuse, fuse_pieces
from refdepth.fusion.crosscheck import ViewConsistency, check_view
from refdepth.fusion.settings import FusionSettings
from refdepth.fusion.tsdf import FusedMesh, fuse_mesh

__all__ = [
    "FusedCloud",
    "FusedMesh",
    "FusionSettings",
    "ViewConsistency",
    "check_view",
    "fuse",
    "fuse_mesh",
    "fuse_pieces",
]
