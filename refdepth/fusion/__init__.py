"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.cloud import (
    KeptPixels,
    fuse,
    fuse_kept,
    fuse_pieces,
    rivals_of,
    sources_of,
)
from refdepth.fusion.consensus import draw_together, gives
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.fusion.tsdf import fuse_mesh

__all__ = [
    "ColourRatio",
    "DepthCache",
    "FusionSettings",
    "KeptPixels",
    "MeshSettings",
    "Swatches",
    "ViewConsistency",
    "check_view",
    "compare_colours",
    "draw_together",
    "even_gains",
    "fuse",
    "fuse_kept",
    "fuse_mesh",
    "fuse_pieces",
    "gives",
    "rivals_of",
    "sources_of",
]
