"""The renderer spelled out: every triangle against every pixel, gradients by torch's autograd.

Slow and obvious on purpose. Tests compare the other renderers with it; nothing else uses it.
"""

from __future__ import annotations

import torch

from refdepth.render.interface import Raster, RenderOutput, Visibility
from refdepth.render.kernels.geometry import FLAT, SLACK


class ReferenceRenderer:
    """Renders with plain tensor operations, on the device of its inputs."""

    name = "reference"
    device = torch.device("cpu")

    def visibility(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Visibility:
        """See `Renderer.visibility`."""
        rast = self.rasterize(q.detach(), triangles, height, width)
        return Visibility(triangle_id=rast.triangle_id, depth=rast.depth)

    def rasterize(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Raster:
        """See `Renderer.rasterize`."""
        pixels = _pixel_centres(height, width)
        ids = torch.stack([_visible(view, triangles, pixels) for view in q.detach()])
        weights, depth = zip(
            *(
                _interpolants(view, triangles, seen, pixels)
                for view, seen in zip(q, ids, strict=True)
            ),
            strict=True,
        )
        return Raster(
            barycentrics=torch.stack(weights).reshape(len(q), height, width, 2),
            triangle_id=ids.reshape(len(q), height, width).to(torch.int32),
            depth=torch.stack(depth).reshape(len(q), height, width),
        )

    def interpolate(
        self, rast: Raster, attributes: torch.Tensor, triangles: torch.Tensor
    ) -> torch.Tensor:
        """See `Renderer.interpolate`."""
        attributes = attributes.to(rast.depth.dtype).expand(len(rast.depth), -1, -1)
        out = []
        for weights, ids, values in zip(
            rast.barycentrics, rast.triangle_id, attributes, strict=True
        ):
            corners = values[triangles.long()[(ids.long() - 1).clamp(min=0)]]
            b0, b1 = weights[..., :1], weights[..., 1:]
            blended = b0 * corners[..., 0, :] + b1 * corners[..., 1, :]
            blended = blended + (1 - b0 - b1) * corners[..., 2, :]
            out.append(torch.where(ids[..., None] > 0, blended, 0))
        return torch.stack(out)

    def sample(self, texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """See `Renderer.sample`."""
        height, width = texture.shape[:2]
        u = (uv[..., 0] - 0.5).clamp(0, width - 1)
        v = (uv[..., 1] - 0.5).clamp(0, height - 1)
        u0, v0 = u.detach().floor().long(), v.detach().floor().long()
        u1, v1 = (u0 + 1).clamp(max=width - 1), (v0 + 1).clamp(max=height - 1)
        fu, fv = (u - u0)[..., None], (v - v0)[..., None]
        above = texture[v0, u0] * (1 - fu) + texture[v0, u1] * fu
        below = texture[v1, u0] * (1 - fu) + texture[v1, u1] * fu
        return above * (1 - fv) + below * fv

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
        rast = self.rasterize(q, triangles, height, width)
        seen = self.interpolate(rast, uv, triangles)
        color = torch.where(rast.coverage[..., None], self.sample(texture.to(q.dtype), seen), 0)
        place = torch.stack([seen[..., 0], seen[..., 1]]).detach() - 0.5
        return RenderOutput(
            color=color, place=place, triangle_id=rast.triangle_id, depth=rast.depth
        )


def _pixel_centres(height: int, width: int) -> torch.Tensor:
    """Homogeneous pixel centres (H * W, 3)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    return torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], dim=-1).reshape(-1, 3)


def _inverse_rows(corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the inverse of M = [q0 q1 q2] (..., 3, 3) and the determinant (...,), for corners
    (..., 3 vertices, 3)."""
    q0, q1, q2 = corners.double().unbind(-2)
    cross = torch.linalg.cross
    rows = torch.stack([cross(q1, q2), cross(q2, q0), cross(q0, q1)], dim=-2)
    det = (q0 * rows[..., 0, :]).sum(-1)
    return rows / det[..., None, None], det


def _visible(q: torch.Tensor, triangles: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Index + 1 of the nearest triangle of each pixel (P,), 0 = none."""
    nearest = torch.zeros(len(pixels), dtype=q.dtype)
    ids = torch.zeros(len(pixels), dtype=torch.long)
    for index, triangle in enumerate(triangles.long()):
        corners = q[triangle].double()
        rows, det = _inverse_rows(corners)
        flat = det.abs() <= FLAT * corners.abs().amax(dim=0).prod()
        if flat or not torch.isfinite(rows).all() or not (corners[:, 2] > 0).any():
            continue
        a = pixels @ rows.T
        inside = (a >= -SLACK * rows[:, 2].abs().sum()).all(dim=1)
        nearness = a.sum(dim=1).to(q.dtype)
        closer = inside & (nearness > nearest)
        nearest = torch.where(closer, nearness, nearest)
        ids = torch.where(closer, index + 1, ids)
    return ids


def _interpolants(
    q: torch.Tensor, triangles: torch.Tensor, ids: torch.Tensor, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of vertices 0 and 1 (P, 2) and depth (P,) at each pixel, differentiable."""
    seen = ids > 0
    weights, depth = q.new_zeros((len(ids), 2)), q.new_zeros(len(ids))
    rows, _ = _inverse_rows(q[triangles.long()[ids[seen] - 1]])
    a = (rows * pixels[seen][:, None, :]).sum(-1)
    w = 1 / a.sum(-1)
    weights = weights.index_put((seen,), (a[:, :2] * w[:, None]).to(q.dtype))
    return weights, depth.index_put((seen,), w.to(q.dtype))
