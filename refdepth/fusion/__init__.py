"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.cloud import KeptPixels, fuse, fuse_kept, fuse_pieces, sources_of
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.fusion.tsdf import fuse_mesh

__all__ = [
    "DepthCache",
    "FusionSettings",
    "KeptPixels",
    "MeshSettings",
    "ViewConsistency",
    "check_view",
    "fuse",
    "fuse_kept",
    "fuse_mesh",
    "fuse_pieces",
    "sources_of",
]
