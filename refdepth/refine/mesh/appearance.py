"""What of a photo is compared when a rendered picture is held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from refdepth.arrays import as_tensor, put
from refdepth.geometry.grid import WorkGrid, block_means
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.settings import Appearance
from refdepth.types.camera import projection_from_ref, relative_pose

CONTRAST_FLOOR = 0.1
"""Added to a window's deviation, of pictures with mean 0.5: weak texture, which is mostly noise,
keeps a weak voice. A floor of 0.02 measured worse."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """Reference and sources at one reduction of the pyramid, as tensors on the renderer's device.

    Sources of different size are padded to the largest; the padding has no weight.
    """

    scale: int
    """Photo pixels per pixel of this level."""
    texture: torch.Tensor
    """The reference's appearance (H, W, C + 1); the last channel is 1 where it may be used."""
    images: torch.Tensor
    """The sources' appearance (S, Hs, Ws, C)."""
    weight: torch.Tensor
    """How much each source pixel counts (S, Hs, Ws), in [0, 1]."""
    A: torch.Tensor
    """With `b`: q = A (x, y, 1) z + b for a reference pixel of the full photo (S, 3, 3)."""
    b: torch.Tensor
    """See `A` (S, 3)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the rendered pictures."""
        return self.images.shape[1], self.images.shape[2]


def build_level(
    ref: WorkingView,
    sources: Sequence[WorkingView],
    scale: int,
    *,
    appearance: Appearance,
    window_px: int,
    ref_usable: NDArray[np.bool_] | None = None,
    device: torch.device,
) -> Level:
    """Reduces the photos by `scale`. `ref_usable` (H, W) limits the reference beyond its mask."""
    texture = _appearance(ref, scale, appearance, window_px, device)
    cover = as_tensor(ref.usable_at(scale), device).to(torch.float32)
    if ref_usable is not None:
        cover = cover * as_tensor(block_means(ref_usable.astype(np.float32), scale), device)
    cameras = [WorkGrid(photo=source.grid.photo, factor=scale).camera for source in sources]
    height = max(camera.height for camera in cameras)
    width = max(camera.width for camera in cameras)
    images = texture.new_zeros((len(sources), height, width, texture.shape[2]))
    weight = texture.new_zeros((len(sources), height, width))
    A, b = [], []
    for index, (source, camera) in enumerate(zip(sources, cameras, strict=True)):
        part = np.s_[index, : camera.height, : camera.width]
        images[part] = _appearance(source, scale, appearance, window_px, device)
        weight[part] = as_tensor(source.usable_at(scale), device).to(torch.float32)
        pose = relative_pose(source.cam_from_world, ref.cam_from_world)
        A_source, b_source = projection_from_ref(ref.grid.photo, camera, pose)
        A.append(A_source)
        b.append(b_source)
    return Level(
        scale=scale,
        texture=torch.cat([texture, cover[..., None]], dim=-1).contiguous(),
        images=images,
        weight=weight,
        A=put(np.array(A, np.float32), device),
        b=put(np.array(b, np.float32), device),
    )


def local_contrast(luma: torch.Tensor, window_px: int) -> torch.Tensor:
    """Luma (H, W) freed of its window's mean and contrast (H, W, 1)."""
    side = window_px // 2 * 2 + 1
    # Rows first: torch splits a sum of everything over its threads, and rounds as it splits.
    exposure = luma.mean(dim=1).mean().clamp_min(1e-3)
    # The floor must mean the same in a photo that was exposed longer.
    luma = luma[None, None] * (0.5 / exposure)
    mean = _window_mean(luma, side)
    variance = _window_mean((luma - mean).square(), side)
    return ((luma - mean) / (variance.sqrt() + CONTRAST_FLOOR))[0, 0, ..., None]


def _appearance(
    view: WorkingView, scale: int, appearance: Appearance, window_px: int, device: torch.device
) -> torch.Tensor:
    """What of a photo is compared: RGB itself (H, W, 3), or its local contrast (H, W, 1)."""
    if appearance is Appearance.COLOR:
        return as_tensor(block_means(view.photo().rgb, scale), device)
    return view.derived(
        ("local contrast", scale, window_px, str(device)),
        lambda: local_contrast(as_tensor(view.gray_at(scale), device), window_px),
    )


def _window_mean(picture: torch.Tensor, side: int) -> torch.Tensor:
    half = side // 2
    across = functional.avg_pool2d(picture, (1, side), 1, (0, half), count_include_pad=False)
    return functional.avg_pool2d(across, (side, 1), 1, (half, 0), count_include_pad=False)
