"""The renderer in tensor operations, for any device that torch knows: no other software needed.

Made for triangles of a few pixels. It sees what the CPU renderer sees, gives no gradients, and
waits for its device once a call that draws (see `torch_visibility`), or once for many that draw
nearly the same (`TorchRenderer.for_steps`). Arithmetic on positions is float64 where the device has
it, storage has the type of `q`; the same bits on every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from refdepth.precision import widest_float
from refdepth.render import torch_visibility
from refdepth.render.interface import (
    Raster,
    RenderOutput,
    Visibility,
    check_attributes,
    check_geometry,
    check_sampling,
    check_texture,
)
from refdepth.render.torch_planes import Corners
from refdepth.render.torch_visibility import Allowance

PIXELS = 1 << 20
"""Pixels that are shaded at a time: about 200 MB."""

Tensor = torch.Tensor


class TorchRenderer:
    """Renders on `device`. Refuses inputs that ask for a gradient with a `ValueError`."""

    name = "torch"
    differentiable = False

    def __init__(self, device: torch.device, allowance: Allowance | None = None) -> None:
        self.device = device
        self._allowance = allowance

    def for_steps(self) -> tuple[TorchRenderer, Tensor]:
        """One for pictures that all show nearly the same, which waits for its device at the first
        of each shape alone; and a flag, of no dimension, that says whether one showed much more
        than the first: then what was drawn lacks something, and is not to be used."""
        allowance = Allowance.on(self.device)
        return TorchRenderer(self.device, allowance), allowance.exceeded

    def visibility(self, q: Tensor, triangles: Tensor, height: int, width: int) -> Visibility:
        """See `Renderer.visibility`."""
        check_geometry(q, triangles, height, width, self.device)
        triangle_id, depth = torch_visibility.draw(
            q.detach(), triangles, height, width, self._allowance
        )
        return Visibility(triangle_id=triangle_id, depth=depth)

    def rasterize(self, q: Tensor, triangles: Tensor, height: int, width: int) -> Raster:
        """See `Renderer.rasterize`."""
        _refuse_gradients(q=q)
        seen = self.visibility(q, triangles, height, width)
        weights = q.new_zeros((*seen.depth.shape, 2))
        for some in _stretches(seen.triangle_id, triangles):
            some.enter(some.weights(q)[:, :2], weights)
        return Raster(barycentrics=weights, triangle_id=seen.triangle_id, depth=seen.depth)

    def interpolate(self, rast: Raster, attributes: Tensor, triangles: Tensor) -> Tensor:
        """See `Renderer.interpolate`."""
        _refuse_gradients(rast=rast.barycentrics, attributes=attributes)
        check_attributes(rast, attributes, triangles)
        values = attributes.to(rast.depth.dtype)
        out = values.new_zeros((*rast.depth.shape, values.shape[-1]))
        for some in _stretches(rast.triangle_id, triangles):
            first_two = rast.barycentrics.reshape(-1, 2)[some.place]
            weights = torch.cat([first_two, 1 - first_two.sum(dim=1, keepdim=True)], dim=1)
            some.enter(some.blend(weights, values), out)
        return out

    def sample(self, texture: Tensor, uv: Tensor) -> Tensor:
        """See `Renderer.sample`."""
        _refuse_gradients(texture=texture, uv=uv)
        check_sampling(texture, uv)
        return _bilinear(texture.to(uv.dtype), uv - 0.5)

    def render(
        self,
        q: Tensor,
        triangles: Tensor,
        *,
        uv: Tensor,
        texture: Tensor,
        height: int,
        width: int,
    ) -> RenderOutput:
        """See `Renderer.render`."""
        _refuse_gradients(q=q, uv=uv, texture=texture)
        check_geometry(q, triangles, height, width, self.device)
        check_texture(uv, texture, q)
        seen = self.visibility(q, triangles, height, width)
        color = q.new_zeros((*seen.depth.shape, texture.shape[2]))
        place = q.new_zeros((*seen.depth.shape, 2))
        texels, texture = uv.to(widest_float(q.device)) - 0.5, texture.to(q.dtype)
        for some in _stretches(seen.triangle_id, triangles):
            where = some.blend(some.weights(q), texels).to(q.dtype)
            some.enter(where, place)
            some.enter(_bilinear(texture, where), color)
        return RenderOutput(
            color=color,
            place=place.movedim(-1, 0).contiguous(),
            triangle_id=seen.triangle_id,
            depth=seen.depth,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretch:
    """Some of the pixels of all pictures, picture by picture and row by row, (N,) each."""

    place: slice
    """Which they are."""
    view: Tensor
    row: Tensor
    column: Tensor
    index: Tensor
    """The triangle that each sees; the first where it sees none."""
    covered: Tensor
    triangles: Tensor
    """All of them (T, 3)."""

    def weights(self, q: Tensor) -> Tensor:
        """Perspective-correct weights of the triangles' vertices among `q` (B, V, 3), (N, 3)."""
        corners = Corners.of(q, self.triangles, self.view, self.index)
        return torch.stack(corners.from_pixel(self.column + 0.5, self.row + 0.5).weights(), dim=1)

    def blend(self, weights: Tensor, attributes: Tensor) -> Tensor:
        """Vertex attributes (V, C) or (B, V, C) at the pixels (N, C)."""
        vertices = self.triangles[self.index].long()
        if attributes.ndim == 3:
            vertices = vertices + (self.view * attributes.shape[1])[:, None]
        corners = attributes.reshape(-1, attributes.shape[-1])[vertices]
        first, second, third = (
            weights[:, corner, None] * corners[:, corner] for corner in (0, 1, 2)
        )
        return first + second + third

    def enter(self, values: Tensor, out: Tensor) -> None:
        """Puts `values` (N, C) into pictures (B, H, W, C), where something is seen."""
        out.view(-1, out.shape[-1])[self.place] = torch.where(self.covered[:, None], values, 0)


def _stretches(triangle_id: Tensor, triangles: Tensor) -> Iterator[_Stretch]:
    """The pixels of pictures of ids (B, H, W), a bounded number at a time; none where there is no
    triangle."""
    _, height, width = triangle_id.shape
    ids = triangle_id.reshape(-1)
    for first in range(0, len(ids) if len(triangles) else 0, PIXELS):
        place = slice(first, min(first + PIXELS, len(ids)))
        number = torch.arange(place.start, place.stop, device=ids.device)
        row = torch.div(number, width, rounding_mode="floor")
        view = torch.div(row, height, rounding_mode="floor")
        yield _Stretch(
            place=place,
            view=view,
            row=row - view * height,
            column=number - row * width,
            index=(ids[place] - 1).clamp_min(0),
            covered=ids[place] > 0,
            triangles=triangles,
        )


def _bilinear(texture: Tensor, place: Tensor) -> Tensor:
    """Values (..., C) of a `texture` (Ht, Wt, C) at places (..., 2) in texels, whole numbers at
    their centres; the border's beyond the outer ones, the first texel's where it is no number."""
    height, width = texture.shape[:2]
    (left, right, across), (top, bottom, down) = (
        _between(place[..., axis], size) for axis, size in ((0, width), (1, height))
    )
    texels = texture.reshape(height * width, -1)
    corner, under = texels[top * width + left], texels[bottom * width + left]
    above = corner + across * (texels[top * width + right] - corner)
    below = under + across * (texels[bottom * width + right] - under)
    return above + down * (below - above)


def _between(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The texels before and after positions (...) on an axis, and the part of the way between them
    (..., 1)."""
    position = position.nan_to_num(nan=0.0).clamp(0, size - 1)
    before = position.floor()
    index = before.long()
    return index, (index + 1).clamp(max=size - 1), (position - before)[..., None]


def _refuse_gradients(**inputs: Tensor) -> None:
    """Raises `ValueError` where an input asks for a gradient."""
    for name, tensor in inputs.items():
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name} must not ask for a gradient: the torch renderer gives none")
