"""Monocular depth networks as priors, through transformers."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.devices import select_device
from refdepth.errors import InputError, StageError
from refdepth.io.images import load_photo
from refdepth.priors.checkpoints import Checkpoint, find_checkpoint
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

logger = logging.getLogger(__name__)

_KIND_OF_TYPE = {
    "dpt": PriorKind.INVERSE_AFFINE,
    "depth_anything": PriorKind.INVERSE_AFFINE,
    "zoedepth": PriorKind.METRIC,
    "glpn": PriorKind.METRIC,
    "depth_pro": PriorKind.METRIC,
}
"""What a model type predicts where its configuration does not say."""


class NetworkPrior:
    """A depth network: DPT / MiDaS, Depth Anything V1 and V2, ZoeDepth, GLPN, Depth Pro.

    The weights are read on the first estimate. Only safetensors are loaded and no code comes with
    a model. On CUDA the network runs in half precision.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path,
        *,
        device: str = "auto",
        kind: PriorKind | None = None,
    ) -> None:
        """`checkpoint` is one, or a hub id or folder that `find_checkpoint` looks for when it is
        first needed. `device` is auto, cpu, cuda or mps. `kind` overrides what the configuration
        says about how the network's values relate to depth."""
        self._asked = checkpoint
        self._device = device
        self._kind = kind
        self._loaded: _Network | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The network's files. Raises `InputError` and `UnavailableError` as `find_checkpoint`
        does."""
        asked = self._asked
        return asked if isinstance(asked, Checkpoint) else find_checkpoint(str(asked))

    @property
    def identity(self) -> Mapping[str, str]:
        """Model and revision (a commit, or a content hash of a local folder)."""
        identity = {
            "source": "network",
            "model": self.checkpoint.model,
            "revision": self.checkpoint.revision,
        }
        return identity if self._kind is None else identity | {"kind": self._kind.value}

    @property
    def device(self) -> str:
        """Where the network runs: cpu, cuda or mps. Raises `UnavailableError` for one that is not
        there."""
        return select_device(self._device).type

    def estimate(self, view: View, scene: Scene) -> Prior:
        """The network's word on a view's photo, at the resolution of the network where that is less
        than the photo's.

        Raises `InputError` when the checkpoint cannot be used, `UnavailableError` when a device
        was asked for and is not there, `StageError` when the network gives nothing finite.
        """
        return self._estimate(np.asarray(load_photo(view).image))

    def estimate_image(self, image: NDArray[np.float32]) -> Prior:
        """The same for an RGB picture in [0, 1] (height, width, 3)."""
        return self._estimate(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))

    def _estimate(self, pixels: NDArray[np.uint8]) -> Prior:
        if self._loaded is None:
            self._loaded = _Network(self.checkpoint, self._device, self._kind)
        values = self._loaded(pixels)
        metric = self._loaded.kind == PriorKind.METRIC
        values[~np.isfinite(values) | (metric & (values <= 0))] = np.nan
        if np.isnan(values).all():
            raise StageError(
                "the network gives no finite depth.",
                subject=self.checkpoint.model,
                action="Try another depth model.",
            )
        step = pixels.shape[0] / values.shape[0], pixels.shape[1] / values.shape[1]
        return Prior(values=values, kind=self._loaded.kind, in_metres=metric, step=step)


class _Network:
    """A loaded model with its image processor."""

    def __init__(self, checkpoint: Checkpoint, device: str, kind: PriorKind | None) -> None:
        import torch
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

        self._device = select_device(device).type
        self._dtype = torch.float16 if self._device == "cuda" else torch.float32
        where = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(checkpoint.folder, **where)
            self.kind = kind or _kind(config, checkpoint)
            # Pillow everywhere: results do not depend on whether torchvision is installed.
            self._processor = AutoImageProcessor.from_pretrained(
                checkpoint.folder, backend="pil", **where
            )
            with _quiet():
                model, report = AutoModelForDepthEstimation.from_pretrained(
                    checkpoint.folder,
                    use_safetensors=True,
                    dtype=self._dtype,
                    output_loading_info=True,
                    **where,
                )
        except (InputError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            # transformers raises ImportError, KeyError, OSError, ValueError, SafetensorError, ...
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"not a depth checkpoint that can be loaded ({reason}).",
                subject=checkpoint.folder,
                action="Give a depth-estimation model saved by transformers.",
            ) from error
        absent = sorted(report["missing_keys"])
        if absent:
            raise InputError(
                f"{len(absent)} weights are missing, {absent[0]} among them.",
                subject=checkpoint.folder,
                action="Give the complete checkpoint.",
            )
        self._model = model.to(self._device).eval()
        self._options = _processor_options(config)
        logger.info("loaded %s (%s) on %s", checkpoint.model, config.model_type, self._device)

    @one_torch_thread()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        photo = pixels.shape[:2]
        inputs = self._processor(images=pixels, return_tensors="pt", **self._options)
        with torch.inference_mode():
            outputs = self._model(inputs["pixel_values"].to(self._device, self._dtype))
        # Half precision would go on through resizing and scaling, and leave terraces of 5e-4.
        for key, value in outputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                outputs[key] = value.float()
        process = self._processor.post_process_depth_estimation
        seen = tuple(inputs["pixel_values"].shape[-2:])
        size = min(photo, seen, key=math.prod)
        sizes = {"target_sizes": [size]}
        if "source_sizes" in inspect.signature(process).parameters:
            sizes["source_sizes"] = [photo]
        depth = process(outputs, **sizes)[0]["predicted_depth"]
        return np.array(depth.cpu().numpy(), dtype=np.float32).reshape(size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar: the run has its own."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _kind(config: Any, checkpoint: Checkpoint) -> PriorKind:
    """How a network's values relate to depth, by its configuration."""
    said = getattr(config, "depth_estimation_type", None)
    if said is not None and config.model_type in _KIND_OF_TYPE:
        return PriorKind.METRIC if said == "metric" else PriorKind.INVERSE_AFFINE
    if config.model_type in _KIND_OF_TYPE:
        return _KIND_OF_TYPE[config.model_type]
    raise InputError(
        f"a {config.model_type!r} model is not a depth network that is known here.",
        subject=checkpoint.folder,
        action=f"Known: {', '.join(sorted(_KIND_OF_TYPE))}; for others set depth.kind.",
    )


def _processor_options(config: Any) -> dict[str, Any]:
    """What the image processor must be told beyond its own configuration."""
    if config.model_type == "dpt" and getattr(config, "backbone_config", None) is None:
        # A plain ViT's position embedding has one size: DPT refuses any other picture.
        size = {"height": config.image_size, "width": config.image_size}
        return {"size": size, "keep_aspect_ratio": False}
    return {}
