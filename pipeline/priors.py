"""Which depth prior a run uses: chosen from what was asked and what can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refdepth.errors import ConfigurationError, InputError, UnavailableError
from refdepth.geometry.lens import InputPhoto
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.views import photo_names
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.checkpoints import AUTO, AUTO_MODEL, SWEEP, find_checkpoint
from refdepth.priors.maps import MapsPrior, check_unit
from refdepth.types.prior import DepthPrior, PriorKind
from refdepth.types.scene import View

FALLBACK_NOTE = (
    "The weights of Depth Anything V2 Small are neither in the local cache nor reachable; the"
    " built-in sweep is used instead. `refdepth doctor` says how to get them."
)


def choose_prior(
    workspace: Workspace, request: RunRequest, finished: Manifest | None
) -> dict[str, Any]:
    """Identity of the prior: what determines its values, and enough to open it.

    `auto` keeps to what a `finished` depth stage resolved it to, so that a run does not change
    when weights come and go. Raises `UnavailableError` for a model that cannot be had, and
    `InputError` for depth maps that are not there.
    """
    settings = request.config.depth
    maps = request.inputs.path("depth_maps")
    if maps is not None:
        if settings.kind is None:
            raise ConfigurationError(
                "is needed with depth maps.",
                subject="depth.kind",
                action="Give --depth-kind inverse_affine, affine or metric.",
            )
        if not maps.is_dir():
            raise InputError("no such folder of depth maps.", subject=maps)
        check_unit(settings.kind, settings.maps_unit)
        return {
            "prior": "maps",
            "kind": settings.kind.value,
            **({} if settings.maps_unit is None else {"unit": settings.maps_unit}),
            "maps": workspace.folder_hash(maps),
        }
    if settings.model == AUTO:
        return _resolve_auto(request, finished)
    if settings.model == SWEEP:
        return _sweep(request)
    return _network(request, settings.model)


def open_prior(
    workspace: Workspace, request: RunRequest, identity: Mapping[str, Any]
) -> DepthPrior:
    """The prior that `identity` (from `choose_prior`) stands for."""
    if identity["prior"] == "maps":
        maps = request.inputs.path("depth_maps")
        assert maps is not None
        return MapsPrior(
            maps,
            PriorKind(identity["kind"]),
            input_photos(workspace),
            names=photo_names(workspace),
            unit=identity.get("unit"),
        )
    if identity["prior"] == SWEEP:
        from refdepth.priors.sweep import SweepPrior

        return SweepPrior(request.config.depth.sweep)
    from refdepth.priors.network import NetworkPrior

    asked = request.config.depth.model
    if asked == AUTO:
        checkpoint = find_checkpoint(identity["model"], identity["revision"])
    else:
        checkpoint = find_checkpoint(asked, request.config.depth.revision)
    return NetworkPrior(
        checkpoint, device=request.config.runtime.device.value, kind=request.config.depth.kind
    )


def describe(identity: Mapping[str, Any]) -> str:
    """The prior in a few words."""
    if identity["prior"] == "maps":
        return f"the given {identity['kind']} maps"
    if identity["prior"] == SWEEP:
        return "the plane sweep"
    if identity["model"] == "local":
        return "the given network"
    return str(identity["model"])


def fallback_note(request: RunRequest, identity: Mapping[str, Any]) -> str:
    """What the user is told when `auto` had to be the sweep; else empty."""
    asked = request.inputs.depth_maps is None and request.config.depth.model == AUTO
    return FALLBACK_NOTE if asked and identity["prior"] == SWEEP else ""


def input_photos(workspace: Workspace) -> Callable[[View], InputPhoto]:
    """From a view to the photo it was made from and the camera SfM found for that."""
    from refdepth._pycolmap import pycolmap

    model = pycolmap.Reconstruction(str(workspace.stage_dir("sfm") / "sparse"))
    images = {image.name: image for image in model.images.values()}
    rows = {row.name: row for row in read_table(workspace)}

    def photo_of(view: View) -> InputPhoto:
        row = rows[view.name]
        camera = model.cameras[images[view.name].camera_id]
        return InputPhoto(
            name=row.original,
            camera_model=camera.model.name,
            width=camera.width,
            height=camera.height,
            camera_params=tuple(camera.params),
            orientation=row.orientation,
        )

    return photo_of


def _resolve_auto(request: RunRequest, finished: Manifest | None) -> dict[str, Any]:
    if finished is not None and finished.summary.get("requested") == AUTO:
        before = {
            k: v for k, v in finished.inputs.items() if k in ("prior", "model", "revision", "kind")
        }
        return _sweep(request) if before.get("prior") == SWEEP else before
    try:
        return _network(request, AUTO_MODEL)
    except UnavailableError:
        return _sweep(request)


def _sweep(request: RunRequest) -> dict[str, Any]:
    return {"prior": SWEEP, "settings": request.config.depth.sweep.result_fields()}


def _network(request: RunRequest, model: str) -> dict[str, Any]:
    checkpoint = find_checkpoint(model, request.config.depth.revision)
    kind = request.config.depth.kind
    return {
        "prior": "network",
        "model": checkpoint.model,
        "revision": checkpoint.revision,
        **({} if kind is None else {"kind": kind.value}),
    }
