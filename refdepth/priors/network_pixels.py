"""From a photo's pixels to what a depth network looks at, and from its outputs to values.

transformers has image processors for this. Some of them need torchvision, which is not needed
otherwise; what those do is written out here, in torch and Pillow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]
Prepare = Callable[[Pixels], "torch.Tensor"]

_LARGEST = 640 * 480
"""Pixels of a photo for networks that take one as large as it is: what they were trained on, and
what fits into memory."""
_NEAREST, _FARTHEST = 1e-4, 1e4
"""Metres that Depth Pro's depth is kept within."""
_LENSES_DEG = 1.0, 150.0
"""Fields of view that lenses have whose pictures keep lines straight."""
_ZOE_PADDING = 3.0
"""ZoeDepth mirrors this times the root of half a side beyond each border."""
_MEAN, _SPREAD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Of a picture's channels, where a network that asks for them does not say which."""


def open_preparation(folder: Path, config: Any) -> Prepare:
    """What makes (1, 3, h, w) of a photo's pixels (H, W, 3), as the checkpoint's own image
    processor has it. `config` is the model's configuration."""
    if config.model_type == "depth_pro":
        return _Stretched(folder, side=1536, normalise=True, smooth=False)
    if config.model_type == "tipsv2_dpt":
        return _Stretched(folder, side=448, normalise=False, smooth=True)
    from transformers import AutoImageProcessor

    # Pillow everywhere: results do not depend on whether torchvision is installed.
    processor = AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True, trust_remote_code=False
    )
    options: dict[str, Any] = {}
    if config.model_type == "dpt" and getattr(config, "backbone_config", None) is None:
        # A plain ViT's position embedding has one size: DPT refuses any other picture.
        size = {"height": config.image_size, "width": config.image_size}
        options = {"size": size, "keep_aspect_ratio": False}
    multiple = _multiple_without_size(processor, config)

    def prepare(pixels: Pixels) -> torch.Tensor:
        if multiple:
            pixels = _shrunk(pixels, multiple)
        pixel_values: torch.Tensor = processor(images=pixels, return_tensors="pt", **options)[
            "pixel_values"
        ]
        return pixel_values

    return prepare


def values_of(
    outputs: Mapping[str, Any],
    config: Any,
    *,
    photo: tuple[int, int],
    size: tuple[int, int],
    focal: float | None,
) -> tuple[NDArray[np.float32], bool]:
    """A network's values (`size`) for a photo of the size `photo`, and whether the scale of metric
    ones is known. `focal` is the photo's focal length in widths of it, where that is known: Depth
    Pro needs one, and else takes its own word for it."""
    import torch

    # Half precision would go on through resizing and scaling, and leave terraces of 5e-4.
    values = outputs["predicted_depth"].float()
    values = values.reshape(1, 1, *values.shape[-2:])
    scaled = True
    if config.model_type == "zoedepth":
        values = _without_padding(values, photo)
    if config.model_type == "depth_pro":
        focal = focal_of(outputs) if focal is None else focal
        scaled = focal is not None
        # Canonical inverse depth c: z = focal / c, focal in widths of the picture.
        values = _resized(values / (focal or 1.0), size, "bilinear")
        values = 1 / torch.clamp(values, min=_NEAREST, max=_FARTHEST)
    else:
        mode = "bilinear" if config.model_type == "tipsv2_dpt" else "bicubic"
        values = _resized(values, size, mode)
    return np.array(values.cpu().numpy(), dtype=np.float32).reshape(size), scaled


def focal_of(outputs: Mapping[str, Any]) -> float | None:
    """Focal length in widths of the picture, from the horizontal field of view that Depth Pro sees
    in it; None for a network that gives none, or one that no lens has."""
    angle = outputs.get("field_of_view")
    degrees = math.nan if angle is None else float(angle.reshape(-1)[0])
    least, largest = _LENSES_DEG
    if not least < degrees < largest:
        return None
    return 0.5 / math.tan(0.5 * math.radians(degrees))


@dataclass(frozen=True)
class _Stretched:
    """The whole photo, stretched to one size: what Depth Pro and TIPSv2 look at."""

    folder: Path
    side: int
    """The network's own, where its files do not say."""
    normalise: bool
    smooth: bool
    """Averages over what one pixel covers; else four neighbours are interpolated."""

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        import torch
        from PIL import Image

        said = _processor_settings(self.folder)
        size = said.get("size") or {}
        height, width = size.get("height", self.side), size.get("width", self.side)
        if self.smooth:
            picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(picture)
        tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
        if said.get("do_rescale", True):
            tensor = tensor * said.get("rescale_factor", 1 / 255)
        if said.get("do_normalize", self.normalise):
            mean, spread = (
                torch.tensor(said.get(name) or standard).reshape(1, 3, 1, 1)
                for name, standard in (("image_mean", _MEAN), ("image_std", _SPREAD))
            )
            tensor = (tensor - mean) / spread
        return tensor if self.smooth else _resized(tensor, (height, width), "bilinear")


def _processor_settings(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _multiple_without_size(processor: Any, config: Any) -> int:
    """What the sides of a picture must be multiples of where the processor leaves it as large as it
    is; 0 where it has a size of its own."""
    if config.model_type == "glpn":
        return int(getattr(processor, "size_divisor", 32))
    backbone = getattr(config, "backbone_config", None)
    if config.model_type == "dpt" and backbone is not None and not processor.do_resize:
        return int(backbone.patch_size)
    return 0


def _shrunk(pixels: Pixels, multiple: int) -> Pixels:
    """The photo at a size that a network takes as it is, no larger than it was trained on."""
    from PIL import Image

    factor = min(1.0, math.sqrt(_LARGEST / math.prod(pixels.shape[:2])))
    height, width = (
        max(round(factor * side / multiple), 1) * multiple for side in pixels.shape[:2]
    )
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _without_padding(values: torch.Tensor, photo: tuple[int, int]) -> torch.Tensor:
    """What ZoeDepth says about the photo alone, (1, 1, *photo)."""
    rows, columns = (int(math.sqrt(side / 2) * _ZOE_PADDING) for side in photo)
    padded = _resized(values, (photo[0] + 2 * rows, photo[1] + 2 * columns), "bicubic")
    return padded[..., rows : rows + photo[0], columns : columns + photo[1]]


def _resized(values: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    import torch

    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return torch.nn.functional.interpolate(values, size=size, mode=mode, align_corners=False)
