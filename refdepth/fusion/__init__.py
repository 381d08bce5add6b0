"""Cross-view consistency, the fused cloud and the TSDF mesh."""

from refdepth.fusion.beside import beside_of
from refdepth.fusion.cloud import fuse, fuse_pieces, sources_of
from refdepth.fusion.consensus import Drawn, draw_together
from refdepth.fusion.crosscheck import DepthCache, ViewConsistency, check_view
from refdepth.fusion.exposure import ColourRatio, Swatches, compare_colours, even_gains
from refdepth.fusion.giving import (
    Given,
    claimants_of,
    finest_first,
    give,
    given_rows,
    pixel_width,
)
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.fusion.tiles import Tile, cut_tiles, fuse_tile, read_rows, write_rows
from refdepth.fusion.tsdf import fuse_mesh

__all__ = [
    "ColourRatio",
    "DepthCache",
    "Drawn",
    "FusionSettings",
    "Given",
    "MeshSettings",
    "Swatches",
    "Tile",
    "ViewConsistency",
    "beside_of",
    "check_view",
    "claimants_of",
    "compare_colours",
    "cut_tiles",
    "draw_together",
    "even_gains",
    "finest_first",
    "fuse",
    "fuse_mesh",
    "fuse_pieces",
    "fuse_tile",
    "give",
    "given_rows",
    "pixel_width",
    "read_rows",
    "sources_of",
    "write_rows",
]
