"""How the brightness of source photos may differ from the reference's, fitted along with depth."""

from __future__ import annotations

import torch

from refdepth.refine.paper.settings import ExposureModel

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

    @torch.no_grad()
    def start_from(
        self, rendered: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Sets gain or stops from the mean brightness of all sources, rendered and photographed
        (S, H, W, C), over pixels weighted with `weight` (S, H, W). Means need no alignment, so this
        works before depth is right."""
        means = [
            (picture.clamp_min(DARKEST) * weight[..., None]).sum(dim=(1, 2))
            for picture in (target, rendered)
        ]
        ratio = torch.where(means[1] > 0, means[0] / means[1].clamp_min(DARKEST), 1)
        if self.model is ExposureModel.GAIN_BIAS:
            self.parameters["gain"].copy_(ratio.log())
        elif self.model is ExposureModel.RESPONSE:
            self.parameters["stops"].copy_(ratio.log2().mean(dim=1, keepdim=True))
