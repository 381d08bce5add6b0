"""Prompt Depth Anything: a network that says more of a depth map than it holds."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.priors.checkpoints import Checkpoint, find_checkpoint
from refdepth.priors.network_kinds import check_prompted, read_configuration
from refdepth.priors.network_model import open_model

if TYPE_CHECKING:
    pass

_FLAT = 1e-6
"""Depth that varies by no larger share of itself is of no use to a network that stretches it."""


class PromptedNetwork:
    """Depth of a photo from a coarser depth map of it. The weights are read when they are first
    needed, and used in float32 everywhere: half precision would leave terraces in the depth."""

    def __init__(self, checkpoint: Checkpoint | str | Path) -> None:
        """`checkpoint` is one, or a hub id or folder that `find_checkpoint` looks for when it is
        first needed."""
        self._asked = checkpoint
        self.device = "cpu"
        """Where it runs; may be changed between photos."""

    def __call__(
        self, pixels: NDArray[np.uint8], prompt: NDArray[np.float32], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Depth of an RGB picture (H, W, 3) at about `shape`, in the unit of `prompt` (h, w; all
        known), which covers the same; NaN where the network gives none.

        Raises `ConfigurationError` for a network of another kind, `InputError` for files that are
        no whole model, `UnavailableError` for weights that cannot be had.
        """
        least, most = float(prompt.min()), float(prompt.max())
        if most - least <= _FLAT * most:
            return np.full(prompt.shape, np.nan, np.float32)
        # Stretched here: so it is the same to the network in any unit.
        seen = self._seen(pixels, (prompt - least) / (most - least), shape)
        depth = least + (most - least) * seen
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)

    @one_torch_thread()
    def _seen(
        self, pixels: NDArray[np.uint8], prompt: NDArray[np.float32], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        import torch

        model, config, processor = self._loaded
        patch = int(config.patch_size)
        height, width = (max(math.ceil(side / patch), 1) * patch for side in shape)
        prepared = processor(
            images=pixels,
            size={"height": height, "width": width},
            keep_aspect_ratio=False,
            ensure_multiple_of=patch,
            do_resize=True,
            do_pad=False,
            return_tensors="pt",
        )["pixel_values"]
        model.to(self.device)
        with torch.inference_mode():
            outputs = model(
                prepared.to(self.device, torch.float32),
                prompt_depth=torch.from_numpy(prompt)[None, None].to(self.device),
            )
        found: NDArray[np.float32] = outputs["predicted_depth"][0].float().cpu().numpy()
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        import torch

        asked = self._asked
        checkpoint = asked if isinstance(asked, Checkpoint) else find_checkpoint(str(asked))
        check_prompted(read_configuration(checkpoint.folder), checkpoint.folder)
        return open_model(
            checkpoint, _open_processor, device=self.device, dtype=torch.float32, values="guided"
        )


def _open_processor(folder: Path, config: Any) -> Any:
    from transformers import AutoImageProcessor

    # Pillow everywhere: results do not depend on whether torchvision is installed.
    return AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True, trust_remote_code=False
    )
