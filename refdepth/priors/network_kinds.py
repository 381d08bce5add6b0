"""What a depth network's configuration says about its values, and under which licence it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdepth.errors import ConfigurationError, InputError
from refdepth.types.prior import PriorKind

_FOCAL_TYPE = "depth_pro"
_METRIC_TYPES = {_FOCAL_TYPE, "glpn", "tipsv2_dpt", "zoedepth"}
"""Their heads give distances along the axis in metres, whatever they were trained on."""
_STATED_TYPE = "depth_anything"
"""Says `depth_estimation_type`, and its head is another one for each."""
_DPT = "dpt"

_PROMPTED_TYPE = "prompt_depth_anything"
_OTHER_USES = {
    _PROMPTED_TYPE: "needs a depth map to start from: refine.upsampler.model has it add detail to"
    " the refined one, and it is no prior",
    "chmv2": "gives the height of trees, not depth",
}

DEPTH_PRO = "apple/DepthPro-hf"

LICENCES = {
    "depth-anything/Depth-Anything-V2-Small-hf": "Apache-2.0",
    "depth-anything/Depth-Anything-V2-Base-hf": "CC-BY-NC-4.0: not for commercial use",
    "depth-anything/Depth-Anything-V2-Large-hf": "CC-BY-NC-4.0: not for commercial use",
    DEPTH_PRO: "apple-amlr: for research",
    "depth-anything/prompt-depth-anything-vits-hf": "Apache-2.0",
    "depth-anything/prompt-depth-anything-vits-transparent-hf": "Apache-2.0",
    "google/tipsv2-b14-dpt": "Apache-2.0",
    "Intel/zoedepth-kitti": "MIT",
    "Intel/zoedepth-nyu-kitti": "MIT",
    "vinvino02/glpn-kitti": "Apache-2.0",
    "vinvino02/glpn-nyu": "Apache-2.0",
}
"""Hub id to the licence of the weights as the model's card names it."""


@dataclass(frozen=True)
class SaidKind:
    """How a network's values relate to depth, as its configuration has it."""

    kind: PriorKind
    certain: bool
    """Whether networks of this configuration can be of no other kind."""


def licence_of(model: str) -> str:
    """Licence of a model's weights in a few words."""
    return LICENCES.get(model, "licence: see the model's card")


def read_configuration(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises `InputError` where it is not there or no JSON object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"not a depth checkpoint that can be loaded ({error}).", subject=path
        ) from error
    if not isinstance(found, dict):
        raise InputError("not a model's configuration.", subject=path)
    return found


def said_kind(configuration: Mapping[str, Any]) -> SaidKind | None:
    """What a configuration says; None for a type of model that is not known here."""
    model_type = configuration.get("model_type")
    if model_type in _METRIC_TYPES:
        return SaidKind(PriorKind.METRIC, certain=True)
    if model_type == _STATED_TYPE:
        metric = configuration.get("depth_estimation_type", "relative") == "metric"
        return SaidKind(PriorKind.METRIC if metric else PriorKind.INVERSE_AFFINE, certain=True)
    if model_type == _DPT:
        # MiDaS gives inverse depth. DINOv2's depth heads (NYU, KITTI) give metres: they alone have
        # a projection before the head.
        metric = bool(configuration.get("add_projection", False))
        return SaidKind(PriorKind.METRIC if metric else PriorKind.INVERSE_AFFINE, certain=False)
    return None


def tells_focal_length(configuration: Mapping[str, Any]) -> bool:
    """Whether a network of this configuration also says how wide the lens is: Depth Pro with its
    head for that."""
    return configuration.get("model_type") == _FOCAL_TYPE and bool(
        configuration.get("use_fov_model", False)
    )


def check_prompted(configuration: Mapping[str, Any], subject: Path) -> None:
    """Raises `ConfigurationError` for a network that does not start from a depth map."""
    model_type = configuration.get("model_type")
    if model_type != _PROMPTED_TYPE:
        raise ConfigurationError(
            f"names a {model_type!r} model, which takes no depth map to start from ({subject}).",
            subject="refine.upsampler.model",
            action=f"Give a {_PROMPTED_TYPE!r} model, or leave it empty.",
        )


def settle_kind(
    configuration: Mapping[str, Any], asked: PriorKind | None, subject: Path
) -> tuple[PriorKind, bool]:
    """The kind of a network's values, and whether they are metres: what its configuration says, or
    what is `asked` where that does not contradict it. Metres are claimed only where the
    configuration says so too.

    Raises `ConfigurationError` for a contradiction, `InputError` for a model that is no depth
    network, or of an unknown type without a kind asked for.
    """
    model_type = configuration.get("model_type")
    if model_type in _OTHER_USES:
        raise InputError(
            f"a {model_type!r} model {_OTHER_USES[model_type]}.",
            subject=subject,
            action=f"Give another depth model: {', '.join(_known())}.",
        )
    said = said_kind(configuration)
    if said is None:
        if asked is None:
            raise InputError(
                f"a {model_type!r} model is not a depth network that is known here.",
                subject=subject,
                action=f"Known: {', '.join(_known())}; for others set depth.kind.",
            )
        return asked, False
    if asked is None or asked == said.kind:
        return said.kind, said.kind == PriorKind.METRIC
    # z = a x + b holds for metric values too, with b = 0.
    if said.certain and (said.kind, asked) != (PriorKind.METRIC, PriorKind.AFFINE):
        raise ConfigurationError(
            f"is {asked.value}, and the network's configuration says {said.kind.value}"
            f" ({subject}).",
            subject="depth.kind",
            action="Leave depth.kind away: it is read from the checkpoint.",
        )
    return asked, False


def kind_note(configuration: Mapping[str, Any], asked: PriorKind | None) -> str:
    """What must be said about a kind that was asked for; empty where the configuration says the
    same."""
    said = said_kind(configuration)
    if asked is None or (said is not None and said.kind == asked):
        return ""
    usual = (
        "a type of network that is not known here"
        if said is None
        else f"a network whose configuration stands for {said.kind.value} values"
    )
    return (
        f"depth.kind takes the values of {usual} for {asked.value}; no metres are claimed."
        " Look at the residuals of the fit."
    )


def _known() -> list[str]:
    return sorted({*_METRIC_TYPES, _STATED_TYPE, _DPT})
