"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.cloud import (
    KeptPixels,
    finest_first,
    fuse,
    fuse_kept,
    fuse_pieces,
    pixel_width,
    sources_of,
)
from refdepth.fusion.consensus import Drawn, draw_together
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.fusion.tsdf import fuse_mesh

__all__ = [
    "ColourRatio",
    "DepthCache",
    "Drawn",
    "FusionSettings",
    "KeptPixels",
    "MeshSettings",
    "Swatches",
    "ViewConsistency",
    "check_view",
    "compare_colours",
    "draw_together",
    "even_gains",
    "finest_first",
    "fuse",
    "fuse_kept",
    "fuse_mesh",
    "fuse_pieces",
    "pixel_width",
    "sources_of",
]
