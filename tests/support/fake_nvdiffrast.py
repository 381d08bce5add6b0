"""nvdiffrast.torch emulated, on the CPU or the device that bites, as far as refdepth's renderer for
CUDA uses it.

Written from nvdiffrast's documentation and what it is seen to do: float32, corners moved to 1/16
pixel, the last listed triangle where depths are equal, gradients through the barycentrics alone
with 1e-6 added to the size of the triangle's area in clip space, inputs refused that it refuses,
and a wait for the device whenever it rasterizes. Simplified: a pixel centre on an edge belongs to
both neighbours, and triangles that reach before the near plane keep their corners where they are.
"""

from __future__ import annotations

import importlib
import sys
import types
from unittest import mock

import numpy as np
import torch
from biting_device import aside, on_host, wait_for

import refdepth.render.interface  # noqa: F401  (loaded before sys.modules is patched)

AREA_CONSTANT = 1e-6
LARGEST_SIDE = 2048
SUBPIXELS = 16
EDGE_SLACK = 1e-9


def emulated_renderer(device):
    """refdepth's renderer for CUDA, over this module and on `device`."""
    package = types.ModuleType("nvdiffrast")
    this = package.torch = sys.modules[__name__]
    with mock.patch.dict(sys.modules, {"nvdiffrast": package, "nvdiffrast.torch": this}):
        sys.modules.pop("refdepth.render.nvdiffrast", None)
        backend = importlib.import_module("refdepth.render.nvdiffrast")
    return backend.NvdiffrastRenderer(device)


class RasterizeCudaContext:
    """What holds nvdiffrast's buffers."""

    def __init__(self, device=None):
        self.device = device


def rasterize(context, pos, tri, resolution, ranges=None, grad_db=True):
    """(u, v, z/w, id + 1) of each pixel (B, H, W, 4) in range mode: picture k shows the `ranges`
    (B, 2) first and number of triangles `tri` (T, 3) over all vertices `pos` (V, 4); ids count
    from the first of all triangles. The first row is at y / w = -1."""
    _need(isinstance(context, RasterizeCudaContext), "the context is not one")
    _need_tensor("pos", pos, torch.float32, (None, 4))
    _need_tensor("tri", tri, torch.int32, (None, 3))
    _need_tensor("ranges", ranges, torch.int32, (None, 2))
    _need_device(context.device, pos, tri)
    _need(ranges.device.type == "cpu", "ranges must be on the CPU")
    height, width = resolution
    _need(0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE, f"resolution {resolution}")
    ids = np.zeros((len(ranges), height, width), np.int32)
    wait_for("nvdiffrast's rasterize")
    corners = on_host(pos.detach()).numpy()[on_host(tri).numpy()].astype(np.float64)
    for view, (first, count) in enumerate(ranges.tolist()):
        _draw(corners[first : first + count], first, ids[view])
    with aside():
        return _barycentrics(pos, tri, torch.from_numpy(ids).to(pos.device)), pos.new_zeros(0)


def interpolate(attr, rast, tri):
    """Vertex attributes (B or 1, V, C) at each pixel (B, H, W, C); 0 where nothing is seen."""
    _need_tensor("attr", attr, torch.float32, (None, None, None))
    _need_tensor("rast", rast, torch.float32, (None, None, None, 4))
    _need_tensor("tri", tri, torch.int32, (None, 3))
    _need(len(attr) in (1, len(rast)), "attr does not fit rast")
    _need_device(attr.device, rast, tri)
    seen = rast[..., 3].detach().long()
    view = torch.arange(len(rast), device=rast.device)[:, None, None].expand(seen.shape)
    corners = attr.expand(len(rast), -1, -1)[view[..., None], tri.long()[(seen - 1).clamp(min=0)]]
    u, v = rast[..., 0, None], rast[..., 1, None]
    values = u * corners[..., 0, :] + v * corners[..., 1, :] + (1 - u - v) * corners[..., 2, :]
    return torch.where(seen[..., None] > 0, values, 0), attr.new_zeros(0)


def texture(tex, uv, *, filter_mode, boundary_mode):
    """Bilinear values (B, H, W, C) of `tex` (1, Ht, Wt, C) at `uv` (B, H, W, 2) in parts of its
    width and height, the border's value beyond the outer centres."""
    _need((filter_mode, boundary_mode) == ("linear", "clamp"), "only linear and clamp are emulated")
    _need_tensor("tex", tex, torch.float32, (1, None, None, None))
    _need_tensor("uv", uv, torch.float32, (None, None, None, 2))
    _need_device(tex.device, uv)
    channels_first = tex.permute(0, 3, 1, 2).expand(len(uv), -1, -1, -1)
    values = torch.nn.functional.grid_sample(
        channels_first, 2 * uv - 1, padding_mode="border", align_corners=False
    )
    return values.permute(0, 2, 3, 1)


def _draw(corners, first, ids):
    """Enters into `ids` (H, W) the nearest of the triangles with `corners` (T, 3, 4).

    With the planes A_i of the corners, a_i = A_i . (x, y, 1) is corner i's weight divided by w.
    """
    height, width = ids.shape
    centres_x = (2 * np.arange(width) + 1) / width - 1
    centres_y = (2 * np.arange(height) + 1) / height - 1
    x, y, z, w = np.moveaxis(corners, -1, 0)
    whole = ((w > 0) & (z >= -w)).all(axis=1)
    with np.errstate(all="ignore"):
        x, left, right = _snapped(x, w, whole, width)
        y, top, bottom = _snapped(y, w, whole, height)
        points = np.stack([x, y, w], axis=-1)
        planes = np.cross(np.roll(points, -1, axis=1), np.roll(points, -2, axis=1))
        planes /= (points[:, 0] * planes[:, 0]).sum(axis=-1)[:, None, None]
    drawn = np.isfinite(planes).all(axis=(1, 2)) & (w > 0).any(axis=1)
    drawn &= (left < right) & (top < bottom)
    nearest = np.full(ids.shape, np.float32(1))
    for t in np.flatnonzero(drawn):
        box = slice(top[t], bottom[t]), slice(left[t], right[t])
        A = planes[t, :, :, None, None]
        a = A[:, 0] * centres_x[box[1]] + A[:, 1] * centres_y[box[0], None] + A[:, 2]
        depth = (z[t, :, None, None] * a).sum(axis=0).astype(np.float32)
        inverse_w = a.sum(axis=0)
        seen = (inverse_w > 0) & (a >= -EDGE_SLACK * inverse_w).all(axis=0)
        seen &= (depth >= -1) & (depth <= nearest[box])
        nearest[box][seen] = depth[seen]
        ids[box][seen] = first + t + 1


def _snapped(x, w, whole, size):
    """Coordinates (T, 3) of the `whole` triangles on the subpixel grid, and the first pixel and
    one past the last that each triangle can cover."""
    units = np.rint((x / w + 1) / 2 * size * SUBPIXELS)
    snapped = np.where(whole[:, None], (units / SUBPIXELS / size * 2 - 1) * w, x)
    pixels = np.nan_to_num(np.clip(units / SUBPIXELS, 0, size))
    low = np.where(whole, np.floor(pixels.min(axis=1)), 0)
    high = np.where(whole, np.ceil(pixels.max(axis=1)), size)
    return snapped, low.astype(int), high.astype(int)


def _barycentrics(pos, tri, ids):
    """What `rasterize` returns where the triangles `ids` (B, H, W) are seen, with its gradient."""
    height, width = ids.shape[1:]
    place = (ids > 0).flatten().nonzero()[:, 0]
    seen = ids.flatten()[place]
    row, column = place // width % height, place % width
    corners = pos[tri.long()[seen.long() - 1]]
    centre = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
    x, y = (corners[..., :2] - centre[:, None] * corners[..., 3:]).unbind(-1)
    areas = x.roll(-1, 1) * y.roll(-2, 1) - y.roll(-1, 1) * x.roll(-2, 1)
    total = areas.sum(dim=1, keepdim=True)
    weights = (areas / total).detach().clamp(0, 1)
    weights = (weights / weights.sum(dim=1, keepdim=True)).nan_to_num()
    with_gradient = areas / (total + torch.copysign(torch.tensor(AREA_CONSTANT), total))
    uv = weights[:, :2] + (with_gradient - with_gradient.detach())[:, :2]
    z, w = ((weights * corners[..., axis].detach()).sum(dim=1) for axis in (2, 3))
    values = torch.cat([uv, (z / w)[:, None], seen[:, None].float()], dim=1)
    return pos.new_zeros((ids.numel(), 4)).index_copy(0, place, values).reshape(*ids.shape, 4)


def _need(fits, message):
    if not fits:
        raise RuntimeError(f"nvdiffrast: {message}")


def _need_device(device, *tensors):
    _need(all(tensor.device == device for tensor in tensors), f"all inputs must be on {device}")


def _need_tensor(name, tensor, dtype, shape):
    """Contiguous, of this type, and of this shape, None standing for anything but 0."""
    fits = (
        isinstance(tensor, torch.Tensor)
        and tensor.dtype == dtype
        and tensor.is_contiguous()
        and tensor.ndim == len(shape)
        and all(
            side > 0 if wanted is None else side == wanted
            for side, wanted in zip(tensor.shape, shape, strict=True)
        )
    )
    _need(fits, f"{name} must be {dtype}, contiguous, not empty, {shape}")
