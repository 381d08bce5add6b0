"""The renderer for machines without CUDA: numba kernels under torch's autograd.

Results are the same bit for bit at any number of threads and on every run: work is split by the
sizes of the input alone, and sums have a fixed order. Arithmetic on positions is float64, storage
has the type of `q`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from refdepth.render.interface import (
    RenderOutput,
    Visibility,
    check_geometry,
    check_texture,
)
from refdepth.render.kernels import shade, visibility

# Work items of the backward pass over all views. Each holds sums for the vertices it touches, so
# this also bounds memory: at most this many times the vertices of one view.
BACKWARD_ITEMS = 16


class CpuRenderer:
    """Renders on the CPU with kernels compiled by numba."""

    name = "cpu"
    device = torch.device("cpu")

    def visibility(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Visibility:
        """See `Renderer.visibility`."""
        check_geometry(q, triangles, height, width, self.device)
        vertices, faces = _array(q), _array(triangles)
        ids = torch.empty((len(q), height, width), dtype=torch.int32)
        depth = torch.empty(ids.shape, dtype=q.dtype)
        bands = visibility.list_bands(vertices, faces, height, width)
        visibility.draw(
            vertices,
            faces,
            bands.boxes,
            bands.bounds,
            bands.listed,
            bands.shift,
            ids.numpy(),
            depth.numpy(),
        )
        return Visibility(triangle_id=ids, depth=depth)

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
        check_texture(uv, texture, q.shape[1])
        color, triangle_id, depth = _Render.apply(
            q, triangles, uv.to(q.dtype), texture.to(q.dtype), height, width
        )
        return RenderOutput(color=color, triangle_id=triangle_id, depth=depth)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy()


def _lanes(texture: NDArray[Any]) -> tuple[int, ...]:
    return (0,) * texture.shape[2]


class _Render(torch.autograd.Function):
    """q -> colour, ids, depth; gradient to q."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        triangles: torch.Tensor,
        uv: torch.Tensor,
        texture: torch.Tensor,
        height: int,
        width: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids = torch.empty((len(q), height, width), dtype=torch.int32)
        depth = torch.empty(ids.shape, dtype=q.dtype)
        color = torch.empty((*ids.shape, texture.shape[2]), dtype=q.dtype)
        vertices, faces, texels = _array(q), _array(triangles), _array(texture)
        bands = visibility.list_bands(vertices, faces, height, width)
        shade.draw_and_shade(
            vertices,
            faces,
            _array(uv),
            texels,
            _lanes(texels),
            bands.boxes,
            bands.bounds,
            bands.listed,
            bands.shift,
            ids.numpy(),
            depth.numpy(),
            color.numpy(),
        )
        ctx.save_for_backward(q, triangles, uv, texture, ids)
        ctx.bands = bands
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(ids)
        return color, ids, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_color: torch.Tensor | None, _: None, grad_depth: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None, None, None, None, None]:
        q, triangles, uv, texture, ids = map(_array, ctx.saved_tensors)
        bands = ctx.bands
        color_shape = (*ids.shape, texture.shape[2])
        views = len(q)
        items = views * max(1, BACKWARD_ITEMS // max(views, 1))
        ranges = shade.vertex_ranges(triangles, bands.bounds, bands.listed, items)
        offsets = np.concatenate([[0], np.cumsum(ranges[:, 1] - ranges[:, 0])])
        partial = np.empty((offsets[-1], 3))
        shade.shade_backward(
            q,
            triangles,
            uv,
            texture,
            _lanes(texture),
            bands.bounds,
            bands.listed,
            bands.shift,
            ids,
            np.zeros(color_shape, q.dtype) if grad_color is None else _array(grad_color),
            np.empty((0, 0, 0), q.dtype) if grad_depth is None else _array(grad_depth),
            ranges,
            offsets,
            partial,
        )
        grad_q = np.empty_like(q)
        shade.gather_partial(ranges, offsets, partial, grad_q)
        return torch.from_numpy(grad_q), None, None, None, None, None
