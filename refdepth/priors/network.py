"""Monocular depth networks as priors, through transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.cores import one_torch_thread
from refdepth.devices import select_device
from refdepth.errors import StageError
from refdepth.io.images import load_photo
from refdepth.priors.checkpoints import Checkpoint, find_checkpoint
from refdepth.priors.network_kinds import read_configuration, settle_kind
from refdepth.priors.network_model import open_model
from refdepth.priors.network_pixels import focal_of, open_preparation, values_of
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

if TYPE_CHECKING:
    import torch


class NetworkPrior:
    """A depth network: DPT / MiDaS, Depth Anything V1 and V2, ZoeDepth, GLPN, Depth Pro, TIPSv2.

    The weights are read on the first estimate. Only safetensors are loaded and no code comes with
    a model. On CUDA the network runs in half precision.

    Depth Pro's metres are those of the focal length that the view's camera has. A picture without a
    camera gets the one that the network sees in it, and no metres where it does not look for one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path,
        *,
        device: str = "auto",
        kind: PriorKind | None = None,
    ) -> None:
        """`checkpoint` is one, or a hub id or folder that `find_checkpoint` looks for when it is
        first needed. `device` is auto, cpu, cuda or mps. `kind` says how the network's values
        relate to depth, where its configuration does not; one that contradicts it is refused, and
        metres are claimed only where the configuration says so."""
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

        Raises `InputError` when the checkpoint cannot be used, `ConfigurationError` when it is of
        another kind than was asked for, `UnavailableError` when a device was asked for and is not
        there, `StageError` when the network gives nothing finite.
        """
        focal = float(view.camera.K[0, 0]) / view.camera.width
        return self._estimate(np.asarray(load_photo(view).image), focal)

    def estimate_image(self, image: NDArray[np.float32]) -> Prior:
        """The same for an RGB picture in [0, 1] (height, width, 3)."""
        return self._estimate(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8), None)

    def focal_length(self, pixels: NDArray[np.uint8]) -> float | None:
        """Focal length that the network sees in an RGB picture (H, W, 3), in widths of it; None
        where it does not look for one, or sees none that a lens has.

        Raises what `estimate` does for a checkpoint that cannot be used.
        """
        return self._network.focal_length(pixels)

    @property
    def _network(self) -> _Network:
        if self._loaded is None:
            self._loaded = _Network(self.checkpoint, self._device, self._kind)
        return self._loaded

    def _estimate(self, pixels: NDArray[np.uint8], focal: float | None) -> Prior:
        network = self._network
        values, in_metres = network(pixels, focal)
        metric = network.kind == PriorKind.METRIC
        values[~np.isfinite(values) | (metric & (values <= 0))] = np.nan
        if np.isnan(values).all():
            raise StageError(
                "the network gives no finite depth.",
                subject=self.checkpoint.model,
                action="Try another depth model.",
            )
        step = pixels.shape[0] / values.shape[0], pixels.shape[1] / values.shape[1]
        return Prior(values=values, kind=network.kind, in_metres=in_metres, step=step)


class _Network:
    """A loaded model with what prepares its pictures."""

    def __init__(self, checkpoint: Checkpoint, device: str, kind: PriorKind | None) -> None:
        import torch

        self._device = select_device(device).type
        self._dtype = torch.float16 if self._device == "cuda" else torch.float32
        configuration = read_configuration(checkpoint.folder)
        self.kind, self._in_metres = settle_kind(configuration, kind, checkpoint.folder)
        self._model, self._config, self._prepare = open_model(
            checkpoint,
            open_preparation,
            device=self._device,
            dtype=self._dtype,
            values=f"{self.kind} values",
        )

    @one_torch_thread()
    def __call__(
        self, pixels: NDArray[np.uint8], focal: float | None
    ) -> tuple[NDArray[np.float32], bool]:
        """Values, and whether they are metres."""
        seen = self._prepare(pixels)
        photo = pixels.shape[0], pixels.shape[1]
        size = min(photo, (seen.shape[-2], seen.shape[-1]), key=math.prod)
        values, scaled = values_of(
            self._outputs(seen), self._config, photo=photo, size=size, focal=focal
        )
        return values, self._in_metres and scaled

    @one_torch_thread()
    def focal_length(self, pixels: NDArray[np.uint8]) -> float | None:
        """In widths of the picture; None where the network gives none."""
        return focal_of(self._outputs(self._prepare(pixels)))

    def _outputs(self, seen: torch.Tensor) -> Mapping[str, Any]:
        import torch

        with torch.inference_mode():
            outputs: Mapping[str, Any] = self._model(seen.to(self._device, self._dtype))
        return outputs
