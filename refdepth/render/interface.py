"""What every renderer takes and gives.

Vertices come as homogeneous pixel coordinates q = K (R X + t) = (x w, y w, w) per view, with pixel
centres at whole numbers + 0.5 and w the depth along the optical axis. There is no near plane: all
that has w > 0 is drawn, also of triangles that reach behind the camera.

Never drawn: triangles with a coordinate that is not finite, wholly behind the camera (no w > 0),
or without area (a repeated index, or thinner than rounding can tell). They get no gradient. A pixel
belongs to the nearest triangle that holds its centre, edges included; where depths are equal as
stored, to the one listed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

MAX_SIDE_PX = 32_767
"""Largest width or height of a rendered picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Visibility:
    """What each pixel sees, without gradients."""

    triangle_id: torch.Tensor
    """Index of the visible triangle + 1, 0 = none (B, H, W) int32."""
    depth: torch.Tensor
    """Depth w of the visible surface, 0 = none (B, H, W)."""

    @property
    def coverage(self) -> torch.Tensor:
        """Where anything is visible (B, H, W) bool."""
        return self.triangle_id > 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster(Visibility):
    """What each pixel sees, with gradients to the vertices through `barycentrics` and `depth`."""

    barycentrics: torch.Tensor
    """Perspective-correct weights of the triangle's vertices 0 and 1 (B, H, W, 2); vertex 2 has
    the rest. 0 where nothing is visible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderOutput(Visibility):
    """A rendered batch, with gradients through `color` and `depth`."""

    color: torch.Tensor
    """Texture colour, 0 where nothing is visible (B, H, W, C)."""
    place: torch.Tensor
    """Where in the texture that is (2, B, H, W): x and y in texels, whole numbers at their centres,
    without gradient. Of no meaning where nothing is visible."""


class Renderer(Protocol):
    """A rasteriser, differentiable where it says so. All tensors live on `device`; `q` may be
    float32 or, on the CPU, float64, and the other floating-point inputs are converted to its type.
    """

    @property
    def name(self) -> str:
        """Which implementation this is."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its inputs and outputs live."""
        ...

    @property
    def differentiable(self) -> bool:
        """Whether it gives gradients. One that does not raises `ValueError` where an input asks for
        one, and has no other use for what is said about them here."""
        ...

    def visibility(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Visibility:
        """Visible triangles and depth for vertices `q` (B, V, 3) and `triangles` (T, 3) int32,
        without gradients."""
        ...

    def rasterize(
        self, q: torch.Tensor, triangles: torch.Tensor, height: int, width: int
    ) -> Raster:
        """Visible triangles, depth and barycentrics, differentiable with respect to `q`."""
        ...

    def interpolate(
        self, rast: Raster, attributes: torch.Tensor, triangles: torch.Tensor
    ) -> torch.Tensor:
        """Vertex attributes (V, C), or (B, V, C) where views differ, at each pixel (B, H, W, C);
        0 where nothing is visible. Differentiable with respect to `rast` and `attributes`."""
        ...

    def sample(self, texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """Bilinear values (B, H, W, C) of `texture` (Ht, Wt, C) at `uv` (B, H, W, 2) in texels,
        the first texel's centre at (0.5, 0.5). Beyond the outer centres the border's value holds.
        Differentiable with respect to both."""
        ...

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
        """Renders `triangles` (T, 3) int32 over vertices `q` (B, V, 3), textured with `texture`
        (Ht, Wt, C) at vertex coordinates `uv` (V, 2) in texels (first centre at (0.5, 0.5)).

        Differentiable with respect to `q`, and to `uv` and `texture` where they ask for it.
        Raises `ValueError` naming the argument whose shape, type or device does not fit.
        """
        ...


def computing_device(renderer: Renderer | None) -> torch.device | None:
    """Where what surrounds a renderer is computed in tensor operations too: on its device. None
    with the CPU renderer, or none: by compiled loops."""
    return None if renderer is None or renderer.name == "cpu" else renderer.device


def check_geometry(
    q: torch.Tensor, triangles: torch.Tensor, height: int, width: int, device: torch.device
) -> None:
    """Raises `ValueError` when the geometry's shapes, types or device do not fit.

    Indices are checked on the CPU only: on a GPU that would wait for the device.
    """
    if q.ndim != 3 or q.shape[2] != 3 or not q.is_floating_point():
        raise ValueError(f"q must be floating point (B, V, 3), not {q.dtype} {tuple(q.shape)}")
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise ValueError(f"height and width must be 1 to {MAX_SIDE_PX}, not {height} and {width}")
    for name, tensor in (("q", q), ("triangles", triangles)):
        if tensor.device.type != device.type:
            raise ValueError(f"{name} must be on {device}, not {tensor.device}")
    check_triangles(triangles, q.shape[1])


def check_triangles(triangles: torch.Tensor, vertices: int) -> None:
    """Raises `ValueError` unless `triangles` are int32 (T, 3) indices of the vertices."""
    import torch

    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype != torch.int32:
        raise ValueError(
            f"triangles must be int32 (T, 3), not {triangles.dtype} {tuple(triangles.shape)}"
        )
    if triangles.device.type == "cpu" and len(triangles):
        first, last = triangles.aminmax()
        if first < 0 or last >= vertices:
            raise ValueError(
                f"triangles must index {vertices} vertices, not {int(first)} to {int(last)}"
            )


def check_texture(uv: torch.Tensor, texture: torch.Tensor, q: torch.Tensor) -> None:
    """Raises `ValueError` when texture coordinates or texture do not fit the vertices `q`."""
    if uv.ndim != 2 or uv.shape[1] != 2 or len(uv) != q.shape[1]:
        raise ValueError(f"uv must be (V, 2) for q (B, V, 3), not {tuple(uv.shape)}")
    check_sampling(texture, uv)


def check_sampling(texture: torch.Tensor, uv: torch.Tensor) -> None:
    """Raises `ValueError` when `texture` has no texel or `uv` is not of pairs on its device."""
    if texture.ndim != 3 or 0 in texture.shape:
        raise ValueError(f"texture must be (height, width, channels), not {tuple(texture.shape)}")
    if uv.ndim < 2 or uv.shape[-1] != 2:
        raise ValueError(f"uv must be (..., 2), not {tuple(uv.shape)}")
    if uv.device != texture.device:
        raise ValueError(f"uv is on {uv.device}, texture on {texture.device}")


def check_attributes(rast: Raster, attributes: torch.Tensor, triangles: torch.Tensor) -> None:
    """Raises `ValueError` when `attributes` are not (V, C) or (B, V, C) for `rast`."""
    if attributes.ndim not in (2, 3) or (
        attributes.ndim == 3 and len(attributes) != len(rast.depth)
    ):
        raise ValueError(
            f"attributes must be (V, C) or ({len(rast.depth)}, V, C), not {tuple(attributes.shape)}"
        )
    check_triangles(triangles, attributes.shape[-2])


def place_of(uv: torch.Tensor) -> torch.Tensor:
    """`RenderOutput.place` (2, B, H, W) of interpolated texture coordinates (B, H, W, 2)."""
    return uv.detach().movedim(-1, 0) - 0.5
