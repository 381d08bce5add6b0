"""The CPU renderer's operations as torch functions over the compiled kernels.

Backward passes split their work into a fixed number of items with sums of their own, over just the
vertices each item touches, and add those in order: no races, the same bits every time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from refdepth.render.kernels import modular, shade, shade_backward, visibility
from refdepth.render.kernels.sums import gather_partial

BACKWARD_ITEMS = 16
"""Work items of a backward pass over all views. Also bounds its memory: at most this many times
the vertices of one view."""

Grads = tuple[torch.Tensor | None, ...]


def draw(
    q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangle ids and depth (B, H, W), without gradients."""
    vertices, faces = array(q), array(triangles)
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
    return ids, depth


class Render(torch.autograd.Function):
    """(q, triangles, uv, texture, height, width) -> colour, ids, depth, places; gradient to q."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        triangles: torch.Tensor,
        uv: torch.Tensor,
        texture: torch.Tensor,
        height: int,
        width: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws and shades in one pass over the picture."""
        ids = torch.empty((len(q), height, width), dtype=torch.int32)
        depth = torch.empty(ids.shape, dtype=q.dtype)
        color = torch.empty((*ids.shape, texture.shape[2]), dtype=q.dtype)
        places = depth.new_empty((2, *ids.shape))
        vertices, faces = array(q), array(triangles)
        bands = visibility.list_bands(vertices, faces, height, width)
        shade.draw_and_shade(
            vertices,
            faces,
            array(uv),
            array(texture),
            _lanes(texture),
            bands.boxes,
            bands.bounds,
            bands.listed,
            bands.shift,
            ids.numpy(),
            depth.numpy(),
            color.numpy(),
            places.numpy(),
        )
        ctx.save_for_backward(q, triangles, uv, texture, ids, depth, places)
        ctx.bands = bands
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(ids, places)
        return color, ids, depth, places

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad_color: torch.Tensor | None,
        _: None,
        grad_depth: torch.Tensor | None,
        __: None,
    ) -> Grads:
        """Gradient to q."""
        q, triangles, uv, texture, ids, depth, places = ctx.saved_tensors
        bands: visibility.Bands = ctx.bands
        if grad_color is None:
            grad_color = q.new_zeros((*ids.shape, texture.shape[2]))
        if grad_depth is None:
            grad_depth = q.new_empty((0, 0, 0))
        faces = array(triangles)
        items = len(q) * _parts(len(q))
        ranges = shade_backward.vertex_ranges(faces, bands.bounds, bands.listed, items)
        offsets, partial = _partial_sums(ranges, columns=3)
        shade_backward.shade_backward(
            array(q),
            faces,
            array(uv),
            array(texture),
            _lanes(texture),
            bands.bounds,
            bands.listed,
            bands.shift,
            array(ids),
            array(depth),
            array(places),
            array(grad_color),
            array(grad_depth),
            ranges,
            offsets,
            partial,
        )
        grad_q = torch.empty(q.shape, dtype=q.dtype)
        gather_partial(ranges, offsets, partial, grad_q.numpy())
        return grad_q, None, None, None, None, None


class Rasterize(torch.autograd.Function):
    """(q, triangles, height, width) -> barycentrics, ids, depth; gradient to q."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Visibility, then the weights of each pixel's triangle."""
        ids, depth = draw(q, triangles, height, width)
        weights = torch.empty((*ids.shape, 2), dtype=q.dtype)
        modular.barycentrics(array(q), array(triangles), ids.numpy(), weights.numpy())
        ctx.save_for_backward(q, triangles, ids)
        ctx.mark_non_differentiable(ids)
        return weights, ids, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_weights: torch.Tensor, _: torch.Tensor, grad_depth: torch.Tensor
    ) -> Grads:
        """Gradient to q."""
        q, triangles, ids = ctx.saved_tensors
        faces = array(triangles)
        ranges = modular.pixel_vertex_ranges(faces, array(ids), _parts(len(q)))
        offsets, partial = _partial_sums(ranges, columns=3)
        modular.rasterize_backward(
            array(q),
            faces,
            array(ids),
            array(grad_weights),
            array(grad_depth),
            ranges,
            offsets,
            partial,
        )
        grad_q = torch.empty(q.shape, dtype=q.dtype)
        gather_partial(ranges, offsets, partial, grad_q.numpy())
        return grad_q, None, None, None


class Interpolate(torch.autograd.Function):
    """(weights, ids, attributes (B or 1, V, C), triangles) -> values (B, H, W, C); gradients to
    weights and attributes."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: torch.Tensor,
        ids: torch.Tensor,
        attributes: torch.Tensor,
        triangles: torch.Tensor,
    ) -> torch.Tensor:
        """Weighted sums of the attributes of each pixel's triangle."""
        out = torch.empty((*ids.shape, attributes.shape[2]), dtype=weights.dtype)
        modular.interpolate(
            array(weights), array(triangles), array(ids), array(attributes), out.numpy()
        )
        ctx.save_for_backward(weights, ids, attributes, triangles)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        """Gradients to weights and attributes, where asked."""
        weights, ids, attributes, triangles = ctx.saved_tensors
        grad_weights = grad_attributes = None
        faces, pixels, grad_out = array(triangles), array(ids), array(grad)
        if ctx.needs_input_grad[0]:
            grad_weights = torch.empty(weights.shape, dtype=weights.dtype)
            modular.interpolate_backward_weights(
                faces, pixels, array(attributes), grad_out, grad_weights.numpy()
            )
        if ctx.needs_input_grad[2]:
            grad_attributes = torch.empty(attributes.shape, dtype=attributes.dtype)
            ranges = modular.pixel_vertex_ranges(faces, pixels, _parts(len(ids)))
            offsets, partial = _partial_sums(ranges, columns=attributes.shape[2])
            modular.interpolate_backward_attributes(
                array(weights), faces, pixels, grad_out, ranges, offsets, partial
            )
            gather_partial(ranges, offsets, partial, grad_attributes.numpy())
        return grad_weights, None, grad_attributes, None


class Sample(torch.autograd.Function):
    """(texture (Ht, Wt, C), uv (N, 2)) -> values (N, C); gradients to both."""

    @staticmethod
    def forward(ctx: Any, texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """Bilinear lookups."""
        out = torch.empty((len(uv), texture.shape[2]), dtype=uv.dtype)
        modular.sample(array(texture), array(uv), out.numpy())
        ctx.save_for_backward(texture, uv)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Grads:
        """Gradients to texture and uv, where asked."""
        texture, uv = ctx.saved_tensors
        grad_texture = grad_uv = None
        if ctx.needs_input_grad[0]:
            sums = np.empty(texture.shape)
            modular.sample_backward_texture(array(uv), array(grad), sums)
            grad_texture = torch.from_numpy(sums).to(texture.dtype)
        if ctx.needs_input_grad[1]:
            grad_uv = torch.empty(uv.shape, dtype=uv.dtype)
            modular.sample_backward_uv(array(texture), array(uv), array(grad), grad_uv.numpy())
        return grad_texture, grad_uv


def array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor's numbers as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def widen(texture: torch.Tensor) -> torch.Tensor:
    """`texture` (Ht, Wt, C) with its only row or column twice, where it has but one."""
    for axis in (0, 1):
        if texture.shape[axis] == 1:
            texture = texture.repeat_interleave(2, dim=axis)
    return texture


def _lanes(texture: torch.Tensor) -> tuple[int, ...]:
    return (0,) * texture.shape[2]


def _parts(views: int) -> int:
    return max(1, BACKWARD_ITEMS // max(views, 1))


def _partial_sums(
    ranges: NDArray[np.int64], columns: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where each item's sums start (items + 1,), and room for them."""
    offsets = np.concatenate([[0], np.cumsum(ranges[:, 1] - ranges[:, 0])])
    return offsets, np.empty((offsets[-1], columns))
