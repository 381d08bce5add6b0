"""The renderer for CUDA: nvdiffrast behind the same interface.

Everything stays on the device: no value is read back to the host. Coverage is decided on a grid of
1/16 pixel, so triangle ids can differ from the CPU renderer's at edge pixels. Surfaces nearer than
a thousandth of a view's median vertex depth may be cut off by the near plane that nvdiffrast needs.
"""

from __future__ import annotations

import nvdiffrast.torch as dr
import torch

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

MAX_TILE_PX = 2048
"""Largest viewport side that every nvdiffrast release draws; larger pictures are drawn in tiles."""
MAX_TRIANGLES = 2**24 - 1
"""Largest triangle id that a float32 holds exactly; more are drawn a few views at a time."""
TYPICAL_DEPTH = 1000.0
"""Each view is drawn in the unit that makes this its median vertex depth: nvdiffrast's gradient
adds 1e-6 to the areas of triangles, in squares of the depth's unit, and that has to be nothing."""
NEAR_SHARE = 1e-3
"""Near plane as a share of the median vertex depth."""


class NvdiffrastRenderer:
    """Renders on a CUDA device in float32."""

    name = "nvdiffrast"
    differentiable = True

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cuda", torch.cuda.current_device())
        self._context = dr.RasterizeCudaContext(device=self.device)

    def visibility(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Visibility:
        """See `Renderer.visibility`."""
        with torch.no_grad():
            rast = self.rasterize(q, triangles, height, width)
        return Visibility(triangle_id=rast.triangle_id, depth=rast.depth)

    def rasterize(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Raster:
        """See `Renderer.rasterize`."""
        self._check(q, triangles, height, width)
        if len(q) == 0:
            return _no_views(q, height, width)
        q, triangles = _with_something_to_draw(q, triangles)
        unit, near = _unit_and_near(q)
        q, drawn = _without_bad_vertices(q, triangles)
        rast = self._rast(q * unit, near, drawn, height, width)
        depth, _ = dr.interpolate(q[..., 2:].contiguous(), rast, triangles.contiguous())
        return Raster(
            barycentrics=rast[..., :2],
            triangle_id=rast[..., 3].detach().to(torch.int32),
            depth=depth[..., 0],
        )

    def interpolate(
        self, rast: Raster, attributes: torch.Tensor, triangles: torch.Tensor
    ) -> torch.Tensor:
        """See `Renderer.interpolate`."""
        check_attributes(rast, attributes, triangles)
        if len(triangles) == 0 or len(rast.depth) == 0:
            return rast.depth[..., None] * attributes.new_zeros(attributes.shape[-1])
        if attributes.ndim == 2:
            attributes = attributes[None]
        ids = rast.triangle_id[..., None].to(torch.float32)
        packed = torch.cat([rast.barycentrics, torch.zeros_like(ids), ids], dim=-1)
        values, _ = dr.interpolate(
            attributes.float().contiguous(), packed.contiguous(), triangles.contiguous()
        )
        return values

    def sample(self, texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """See `Renderer.sample`."""
        check_sampling(texture, uv)
        if uv.numel() == 0:
            return uv[..., :1] * texture[0, 0]
        height, width = texture.shape[:2]
        unit = torch.stack([uv[..., 0] / width, uv[..., 1] / height], dim=-1)
        return dr.texture(
            texture[None].float().contiguous(),
            unit.contiguous(),
            filter_mode="linear",
            boundary_mode="clamp",
        )

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
        self._check(q, triangles, height, width)
        check_texture(uv, texture, q)
        rast = self.rasterize(q, triangles, height, width)
        seen = self.interpolate(rast, uv, triangles)
        color = torch.where(rast.coverage[..., None], self.sample(texture, seen), 0)
        return RenderOutput(
            color=color, place=place_of(seen), triangle_id=rast.triangle_id, depth=rast.depth
        )

    def _check(self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> None:
        check_geometry(q, triangles, height, width, self.device)
        if q.dtype != torch.float32:
            raise ValueError(f"q must be float32 on CUDA, not {q.dtype}")

    def _rast(
        self,
        q: torch.Tensor,
        near: torch.Tensor,
        triangles: torch.Tensor,
        height: int,
        width: int,
    ) -> torch.Tensor:
        """nvdiffrast's (u, v, z/w, id + 1), (B, H, W, 4), for `triangles` (B, T, 3) of each view,
        drawn from depth `near` (B, 1) on; ids count within the view."""
        views_at_once = max(1, MAX_TRIANGLES // triangles.shape[1])
        rows = []
        for top, bottom in _tiles(height):
            row = []
            for left, right in _tiles(width):
                clip = _clip_space(q, near, left, right, top, bottom)
                size = bottom - top, right - left
                row.append(
                    torch.cat(
                        [
                            self._tile(
                                clip[first : first + views_at_once],
                                triangles[first : first + views_at_once],
                                size,
                            )
                            for first in range(0, len(q), views_at_once)
                        ]
                    )
                )
            rows.append(torch.cat(row, dim=2))
        return torch.cat(rows, dim=1)

    def _tile(
        self, clip: torch.Tensor, triangles: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """One tile of a few views. Each view has its own triangles, so the views are laid end to
        end (nvdiffrast's range mode)."""
        views, vertices = clip.shape[:2]
        count = triangles.shape[1]
        view = torch.arange(views, device=clip.device, dtype=torch.int32)
        end_to_end = (triangles + (view * vertices)[:, None, None]).reshape(-1, 3)
        ranges = torch.tensor([[k * count, count] for k in range(views)], dtype=torch.int32)
        rast, _ = dr.rasterize(
            self._context,
            clip.reshape(-1, 4).contiguous(),
            end_to_end.contiguous(),
            size,
            ranges=ranges,
            grad_db=False,
        )
        ids = rast[..., 3:]
        ids = torch.where(ids > 0, ids - (view * count)[:, None, None, None], 0)
        return torch.cat([rast[..., :3], ids], dim=-1)


def _with_something_to_draw(
    q: torch.Tensor, triangles: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """nvdiffrast refuses empty meshes: one triangle without area draws nothing either."""
    if q.shape[1] == 0:
        q = torch.nn.functional.pad(q, (0, 0, 0, 1))
    if len(triangles) == 0:
        triangles = triangles.new_zeros((1, 3))
    return q, triangles


def _without_bad_vertices(
    q: torch.Tensor, triangles: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices with those that are not finite at 0, and triangles (B, T, 3) with those that use one
    of them collapsed, so that they are not drawn and no NaN reaches a gradient."""
    finite = torch.isfinite(q).all(dim=-1)
    drawn = finite[:, triangles.long()].all(dim=-1, keepdim=True)
    return torch.where(finite[..., None], q, 0), torch.where(drawn, triangles, 0)


def _tiles(size: int) -> list[tuple[int, int]]:
    """Even stretches of at most `MAX_TILE_PX` pixels."""
    count = -(-size // MAX_TILE_PX)
    return [(size * k // count, size * (k + 1) // count) for k in range(count)]


def _no_views(q: torch.Tensor, height: int, width: int) -> Raster:
    """What is seen in a batch without views, which nvdiffrast refuses."""
    depth = q.new_zeros((0, height, width)) + q.sum()
    return Raster(
        barycentrics=depth[..., None].expand(-1, -1, -1, 2),
        triangle_id=torch.zeros_like(depth, dtype=torch.int32),
        depth=depth,
    )


def _unit_and_near(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What each view's `q` is multiplied with to be drawn (B, 1, 1), and the near plane in that
    unit (B, 1).

    Where all vertices lie before the camera nothing is nearer than the nearest of them, and the
    plane stands half way to it, which spares the depth buffer. A triangle that reaches behind the
    camera has points at any depth.
    """
    depth = q[..., 2].detach()
    finite = torch.isfinite(q.detach()).all(dim=-1)
    front = finite & (depth > 0)
    median = depth.masked_fill(~front, torch.nan).nanmedian(dim=1, keepdim=True).values
    median = median.nan_to_num(nan=1.0)
    nearest = depth.masked_fill(~front, torch.inf).amin(dim=1, keepdim=True)
    reaches_behind = (finite & ~front).any(dim=1, keepdim=True)
    near = torch.where(reaches_behind, 0, nearest.clamp(max=median) / 2)
    unit = TYPICAL_DEPTH / median
    return unit[..., None], torch.maximum(near, NEAR_SHARE * median) * unit


def _clip_space(
    q: torch.Tensor, near: torch.Tensor, left: int, right: int, top: int, bottom: int
) -> torch.Tensor:
    """Clip coordinates (B, V, 4) of homogeneous pixels for a tile. Row 0 is the top row and pixel
    centres are ours; z / w = 1 - 2 near / w."""
    x, y, w = q.unbind(-1)
    return torch.stack(
        [
            2 * (x - left * w) / (right - left) - w,
            2 * (y - top * w) / (bottom - top) - w,
            w - 2 * near,
            w,
        ],
        dim=-1,
    )
