"""The renderer for machines without CUDA: numba kernels under torch's autograd.

Results are the same bit for bit at any number of threads and on every run: work is split by the
sizes of the input alone, and sums have a fixed order. Arithmetic on positions is float64, storage
has the type of `q`.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        drawn = _draw(_array(q), _array(triangles), height, width)
        return Visibility(
            triangle_id=torch.from_numpy(drawn.ids), depth=torch.from_numpy(drawn.depth)
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
        check_geometry(q, triangles, height, width, self.device)
        check_texture(uv, texture, q.shape[1])
        color, triangle_id, depth = _Render.apply(
            q, triangles, uv.to(q.dtype), texture.to(q.dtype), height, width
        )
        return RenderOutput(color=color, triangle_id=triangle_id, depth=depth)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    boxes: NDArray[np.int16]
    ids: NDArray[np.int32]
    depth: NDArray[Any]
    color: NDArray[Any] | None = None


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy()


def _draw(
    q: NDArray[Any],
    triangles: NDArray[np.int32],
    height: int,
    width: int,
    textured: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> _Drawn:
    """Visibility, and with `textured` = (uv, texture) the colour too."""
    rows = visibility.band_rows(height, width)
    boxes, bounds, listed = visibility.bin_triangles(q, triangles, height, width, rows)
    ids = np.empty((len(q), height, width), np.int32)
    depth = np.empty(ids.shape, q.dtype)
    if textured is None:
        visibility.draw(q, triangles, boxes, bounds, listed, rows, ids, depth)
        return _Drawn(boxes=boxes, ids=ids, depth=depth)
    uv, texture = textured
    color = np.empty((*ids.shape, texture.shape[2]), q.dtype)
    shade.draw_and_shade(q, triangles, uv, texture, boxes, bounds, listed, rows, ids, depth, color)
    return _Drawn(boxes=boxes, ids=ids, depth=depth, color=color)


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
        textured = _array(uv), _array(texture)
        drawn = _draw(_array(q), _array(triangles), height, width, textured)
        ids, depth = torch.from_numpy(drawn.ids), torch.from_numpy(drawn.depth)
        ctx.save_for_backward(q, triangles, uv, texture, torch.from_numpy(drawn.boxes), ids, depth)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(ids)
        return torch.from_numpy(drawn.color), ids, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_color: torch.Tensor | None, _: None, grad_depth: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None, None, None, None, None]:
        q, triangles, uv, texture, boxes, ids, depth = map(_array, ctx.saved_tensors)
        if grad_color is None:
            grad_color = torch.zeros(
                (*ids.shape, texture.shape[2]), dtype=ctx.saved_tensors[0].dtype
            )
        views = len(q)
        parts = max(1, BACKWARD_ITEMS // max(views, 1))
        ranges = shade.vertex_ranges(triangles, parts, views)
        offsets = np.concatenate([[0], np.cumsum(ranges[:, 1] - ranges[:, 0] + 1)])
        partial = np.empty((offsets[-1], 3))
        shade.shade_backward(
            q,
            triangles,
            uv,
            texture,
            boxes,
            ids,
            depth,
            _array(grad_color),
            np.empty((0, 0, 0), q.dtype) if grad_depth is None else _array(grad_depth),
            ranges,
            offsets,
            partial,
        )
        grad_q = np.empty_like(q)
        shade.gather_partial(ranges, offsets, partial, parts, grad_q)
        return torch.from_numpy(grad_q), None, None, None, None, None
