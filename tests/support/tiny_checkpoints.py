"""Depth networks with random weights, small enough for tests, written by save_pretrained."""

from __future__ import annotations

import json
from pathlib import Path


def save_depth_anything(
    folder: Path, kind: str = "relative", *, layers: int = 2, size: int = 70
) -> None:
    """`layers` and `size`, the side of the pictures it works on, decide how long it takes."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        mlp_ratio=2,
        out_indices=[1, 2],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 16],
        reassemble_factors=[2, 1],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
    )
    _save(DepthAnythingForDepthEstimation(config), folder, size, 14)


def save_dpt(folder: Path) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
    )
    _save(DPTForDepthEstimation(config), folder, 64, 32)


def _save(model: object, folder: Path, size: int, multiple: int) -> None:
    import torch
    from transformers import AutoImageProcessor

    # A random head gives values far below what can be told from rounding.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head") and name.endswith("weight"):
                parameter.mul_(10)
            if name.startswith("head") and name.endswith("bias"):
                parameter.add_(0.1)
    model.save_pretrained(folder)
    settings = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": size, "width": size},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": multiple,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(folder)
