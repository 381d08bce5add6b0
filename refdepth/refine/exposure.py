"""How the brightness of source photos may differ from the reference's, fitted along with depth."""

from __future__ import annotations

import torch

from refdepth.refine.gradient_settings import ExposureModel

DARKEST = 1e-3
"""Colours are lifted to this before a power is taken: its slope at 0 has no bound."""


class Exposure:
    """The parameters of one exposure model for `sources` photos; all zero means no change.

    `GAIN_BIAS`: exp(gain) color + bias, for each source and channel.
    `RESPONSE` (paper): (2^stops color)^exp(log_exponent), stops for each source, the exponent for
    each source and channel.
    """

    def __init__(
        self, model: ExposureModel, sources: int, channels: int, device: torch.device
    ) -> None:
        self.model = model
        shapes: dict[str, tuple[int, ...]] = {}
        if model is ExposureModel.GAIN_BIAS:
            shapes = {"gain": (sources, channels), "bias": (sources, channels)}
        elif model is ExposureModel.RESPONSE:
            shapes = {"stops": (sources, 1), "log_exponent": (sources, channels)}
        self.parameters: dict[str, torch.Tensor] = {
            name: torch.zeros(shape, device=device, requires_grad=True)
            for name, shape in shapes.items()
        }

    def apply(self, color: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
        """What the sources `selected` (B,) would photograph of `color` (B, H, W, C)."""
        chosen = {name: value[selected][:, None, None] for name, value in self.parameters.items()}
        if self.model is ExposureModel.GAIN_BIAS:
            return color * torch.exp(chosen["gain"]) + chosen["bias"]
        if self.model is ExposureModel.RESPONSE:
            exposed = torch.exp2(chosen["stops"]) * color.clamp_min(DARKEST)
            return exposed ** torch.exp(chosen["log_exponent"])
        return color
