"""Depth networks with random weights, small enough for tests, written by save_pretrained."""

from __future__ import annotations

import json
from pathlib import Path


def save_depth_anything(
    folder: Path, kind: str = "relative", *, layers: int = 2, size: int = 70
) -> None:
    """`layers` and `size`, the side of the pictures it works on, decide how long it takes."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    backbone = _dinov2(28, 14, layers=layers, out_indices=[1, 2], apply_layernorm=True)
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
    _save(DepthAnythingForDepthEstimation(config), folder, _fitted_settings(size, 14))


def save_prompt_depth_anything(folder: Path, kind: str = "metric") -> None:
    from transformers import PromptDepthAnythingConfig, PromptDepthAnythingForDepthEstimation

    config = PromptDepthAnythingConfig(
        backbone_config=_dinov2(28, 14, out_indices=[1, 2], apply_layernorm=True),
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 16],
        reassemble_factors=[2, 1],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type=kind,
    )
    settings = _settings(
        "PromptDepthAnything",
        size={"height": 70, "width": 70},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
    )
    _save(PromptDepthAnythingForDepthEstimation(config), folder, settings, ("head", "neck"))


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
    _save(DPTForDepthEstimation(config), folder, _fitted_settings(64, 32))


def save_dpt_dinov2(folder: Path) -> None:
    """As DINOv2's depth heads are: a projection before the head, photos as large as they are."""
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        backbone_config=_dinov2(28, 14, out_indices=[1, 2, 3, 4], layers=4, apply_layernorm=False),
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=256,  # of the projection, which has no other size
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )
    settings = _settings("DPT", do_resize=False, do_pad=True, size_divisor=14)
    _save(DPTForDepthEstimation(config), folder, settings)


def save_depth_pro(
    folder: Path, *, field_of_view: bool = True, degrees: float | None = None
) -> None:
    """`degrees`: the field of view that it sees in every picture."""
    from transformers import DepthProConfig, DepthProForDepthEstimation

    backbone = _dinov2(16, 4, layers=4)
    config = DepthProConfig(
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[2, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[8, 8],
        image_model_config=backbone,
        patch_model_config=backbone,
        fov_model_config=backbone,
        use_fov_model=field_of_view,
        num_fov_head_layers=0,
    )
    size = {"height": 32, "width": 32}
    model = DepthProForDepthEstimation(config)
    _save(model, folder, _settings("DepthPro", size=size), ())
    if degrees is not None:
        for name, parameter in model.named_parameters():
            if name.startswith("fov_model.head"):
                parameter.data.fill_(degrees if name.endswith("bias") else 0)
        model.save_pretrained(folder)


def save_glpn(folder: Path) -> None:
    from transformers import GLPNConfig, GLPNForDepthEstimation

    config = GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
    )
    _save(GLPNForDepthEstimation(config), folder, _settings("GLPN", size_divisor=32))


def save_zoedepth(folder: Path) -> None:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    backbone = BeitConfig(
        image_size=64,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        use_relative_position_bias=True,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_relative_features=32,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=16,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
    )
    size = {"height": 64, "width": 96}
    settings = _settings("ZoeDepth", size=size, keep_aspect_ratio=False, ensure_multiple_of=32)
    _save(ZoeDepthForDepthEstimation(config), folder, settings, ("neck.", "metric_head"))


def save_tipsv2(folder: Path) -> None:
    from transformers import Tipsv2DptConfig, Tipsv2DptForDepthEstimation, Tipsv2VisionConfig

    backbone = Tipsv2VisionConfig(
        image_size=28,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = Tipsv2DptConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        num_depth_bins=8,
    )
    settings = _settings("Tipsv2Dpt", size={"height": 56, "width": 56}, do_normalize=False)
    _save(Tipsv2DptForDepthEstimation(config), folder, settings)


def _dinov2(image_size: int, patch_size: int, *, layers: int = 2, **options: object) -> object:
    from transformers import Dinov2Config

    return Dinov2Config(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        mlp_ratio=2,
        reshape_hidden_states=False,
        **options,
    )


def _settings(processor: str, **settings: object) -> dict[str, object]:
    return {"image_processor_type": f"{processor}ImageProcessor"} | settings


def _fitted_settings(size: int, multiple: int) -> dict[str, object]:
    return _settings(
        "DPT",
        size={"height": size, "width": size},
        keep_aspect_ratio=True,
        ensure_multiple_of=multiple,
    )


def _save(
    model: object,
    folder: Path,
    settings: dict[str, object],
    amplified: tuple[str, ...] = ("head",),
) -> None:
    import torch

    # A random head gives values far below what can be told from rounding, or below zero.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(amplified) and name.endswith("weight"):
                parameter.mul_(10)
            if name.startswith("head") and name.endswith("bias"):
                parameter.add_(0.1)
            if name.startswith("head") and parameter.shape[:1] == (1,):
                parameter.abs_()
            if name.startswith("fov_model.head") and parameter.shape == (1,):
                parameter.fill_(50)  # degrees
            if name.startswith("head.layers") and parameter.shape[:1] == (1,):
                parameter.mul_(0.002)  # Depth Pro's is large as it is
                parameter.add_(0.5 if parameter.ndim == 1 else 0)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
