"""The renderer for machines without CUDA: numba kernels under torch's autograd.

Results are the same bit for bit at any number of threads and on every run: work is split by the
sizes of the input alone, and sums have a fixed order. Arithmetic on positions is float64, storage
has the type of `q`.
"""

from __future__ import annotations

import torch

from refdepth.render import cpu_ops
from refdepth.render.interface import (
    Raster,
    RenderOutput,
    Visibility,
    check_attributes,
    check_geometry,
    check_sampling,
    check_texture,
    place_of,
)


class CpuRenderer:
    """Renders on the CPU with kernels compiled by numba.

    With `fused` (the default) `render` draws, shades and differentiates with respect to `q` in
    compiled passes of their own; without it, or where `uv` or `texture` ask for a gradient, it
    goes through `rasterize`, `interpolate` and `sample`. The results agree to rounding.
    """

    name = "cpu"
    differentiable = True
    device = torch.device("cpu")

    def __init__(self, *, fused: bool = True) -> None:
        self.fused = fused

    def visibility(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Visibility:
        """See `Renderer.visibility`."""
        check_geometry(q, triangles, height, width, self.device)
        triangle_id, depth = cpu_ops.draw(q, triangles, height, width)
        return Visibility(triangle_id=triangle_id, depth=depth)

    def rasterize(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Raster:
        """See `Renderer.rasterize`."""
        check_geometry(q, triangles, height, width, self.device)
        weights, triangle_id, depth = cpu_ops.Rasterize.apply(q, triangles, height, width)
        return Raster(barycentrics=weights, triangle_id=triangle_id, depth=depth)

    def interpolate(
        self, rast: Raster, attributes: torch.Tensor, triangles: torch.Tensor
    ) -> torch.Tensor:
        """See `Renderer.interpolate`."""
        check_attributes(rast, attributes, triangles)
        attributes = attributes.to(rast.depth.dtype)
        if attributes.ndim == 2:
            attributes = attributes[None]
        return cpu_ops.Interpolate.apply(rast.barycentrics, rast.triangle_id, attributes, triangles)

    def sample(self, texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """See `Renderer.sample`."""
        check_sampling(texture, uv)
        values = cpu_ops.Sample.apply(texture.to(uv.dtype), uv.reshape(-1, 2))
        return values.reshape(*uv.shape[:-1], texture.shape[2])

    def render(
        self,
        q: torch.Tensor,
        triangles: torch.Tensor,
        *,
        uv: torch.Tensor,
        texture: torch.Tensor,
        height: int,
        width: int,
    ) -> RenderOutput:
        """See `Renderer.render`."""
        check_geometry(q, triangles, height, width, self.device)
        check_texture(uv, texture, q)
        if not self.fused or uv.requires_grad or texture.requires_grad:
            rast = self.rasterize(q, triangles, height, width)
            seen = self.interpolate(rast, uv, triangles)
            color = torch.where(rast.coverage[..., None], self.sample(texture, seen), 0)
            return RenderOutput(
                color=color, place=place_of(seen), triangle_id=rast.triangle_id, depth=rast.depth
            )
        # The kernels read two texels a side. A second one like the first changes no colour.
        texture = cpu_ops.widen(texture.to(q.dtype))
        color, triangle_id, depth, place = cpu_ops.Render.apply(
            q, triangles, uv.to(q.dtype), texture, height, width
        )
        return RenderOutput(color=color, place=place, triangle_id=triangle_id, depth=depth)
