"""Differentiable rendering of triangle meshes, behind one interface.

renderer = select_renderer()
output = renderer.render(q, triangles, uv=uv, texture=texture, height=480, width=640)
output.color        # (B, H, W, C), gradients to q
output.depth        # (B, H, W)
output.triangle_id  # (B, H, W) int32, 0 = none
"""

from refdepth.render.interface import (
    Raster,
    Renderer,
    RenderOutput,
    Visibility,
    computing_device,
)
from refdepth.render.selection import select_renderer

__all__ = [
    "Raster",
    "RenderOutput",
    "Renderer",
    "Visibility",
    "computing_device",
    "select_renderer",
]
