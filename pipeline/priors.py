"""Which depth prior a run uses: chosen from what was asked and what can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refdepth.devices import DeviceName
from refdepth.errors import ConfigurationError, InputError, UnavailableError
from refdepth.geometry.grid import WorkGrid
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.devices import gpus
from refdepth.pipeline.engines import Engine, gpu_share
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.stage import NotKnownYet
from refdepth.pipeline.views import WorkingViews, input_photos, photo_names
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.checkpoints import (
    AUTO,
    AUTO_MODEL,
    LOCAL,
    SWEEP,
    Checkpoint,
    cached_checkpoint,
    find_checkpoint,
    local_folder,
)
from refdepth.priors.maps import MapsPrior, check_unit
from refdepth.priors.network_kinds import kind_note, read_configuration, settle_kind
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

if TYPE_CHECKING:
    import torch

    from refdepth.render import Renderer

_MAPS_SECONDS, _SWEEP_SECONDS, _NETWORK_SECONDS = 0.1, 10.0, 2.0
"""Of a core: for a megapixel of a photo, of the sweep's grid, and for a photo."""
_MAPS_BYTES, _SWEEP_BYTES, _NETWORK_BYTES = 40e6, 14, 700 << 20
"""Memory: for a megapixel of a photo, for each depth tried at a pixel of the grid, and in all."""
_SWEEP_CACHE = 24
"""Working views worth keeping between neighbouring views."""

FALLBACK_NOTE = (
    "The weights of Depth Anything V2 Small are neither in the local cache nor reachable; the"
    " built-in sweep is used instead. `refdepth doctor` says how to get them."
)


def choose_prior(
    workspace: Workspace, request: RunRequest, finished: Manifest | None, *, looking: bool
) -> dict[str, Any]:
    """Identity of the prior: what determines its values, and enough to open it.

    `auto` and a hub model keep to what a `finished` depth stage found for the same request, so that
    a run does not change when weights come and go. Raises `UnavailableError` for a model that
    cannot be had, and `InputError` for depth maps that are not there. One who is only `looking`
    downloads nothing and reads no weights: `NotKnownYet` is raised where that would be needed.
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
    if settings.model == SWEEP:
        return _sweep(request)
    found = None
    if settings.model == AUTO or local_folder(settings.model) is None:
        found = _found_before(request, finished)
    if found is not None and (looking or found["prior"] == SWEEP):
        return found
    if looking:
        model = AUTO_MODEL if settings.model == AUTO else settings.model
        return _network(request, at_hand(workspace, model, settings.revision))
    if found is not None and found["model"] != LOCAL:
        return _network(request, find_checkpoint(found["model"], found["revision"]))
    model = AUTO_MODEL if settings.model == AUTO else settings.model
    try:
        checkpoint = find_checkpoint(model, settings.revision, digest=workspace.content_hash)
    except UnavailableError:
        if settings.model == AUTO:
            return _sweep(request)
        raise
    return _network(request, checkpoint)


def open_prior(
    workspace: Workspace,
    request: RunRequest,
    identity: Mapping[str, Any],
    scene: Scene,
    *,
    cache_bytes: int,
) -> Callable[[View], tuple[Prior, str]]:
    """Gives a view's prior, and the device it was made on: the prior that `identity` (from
    `choose_prior`) stands for, which may keep `cache_bytes` of the scene's photos."""
    if identity["prior"] == "maps":
        maps = request.inputs.path("depth_maps")
        assert maps is not None
        given = MapsPrior(
            maps,
            PriorKind(identity["kind"]),
            input_photos(workspace),
            names=photo_names(workspace),
            unit=identity.get("unit"),
        )
        missing = set(given.missing(scene))

        def read(view: View) -> tuple[Prior, str]:
            if view.name not in missing:
                return given.estimate(view, scene), "cpu"
            nothing = np.full(view.camera.shape, np.nan, np.float32)
            return Prior(values=nothing, kind=PriorKind(identity["kind"])), "cpu"

        return read
    if identity["prior"] == SWEEP:
        from refdepth.priors.sweep import SweepPrior

        settings = request.config.depth.sweep
        views = WorkingViews(scene, max_bytes=cache_bytes, **settings.grid)
        engine = Engine(request.config)

        def sweep(view: View) -> tuple[Prior, str]:
            def work(*, renderer: Renderer | None, device: torch.device | None) -> Prior:
                return SweepPrior(settings, views.of, device).estimate(view, scene)

            prior, made_on = engine.run(view.name, work)
            return prior, str(made_on["device"])

        return sweep
    from refdepth.priors.network import NetworkPrior

    network = NetworkPrior(
        checkpoint_of(request, identity),
        device=request.config.runtime.device.value,
        kind=request.config.depth.kind,
    )
    return lambda view: (network.estimate(view, scene), network.device)


def cost_of(request: RunRequest, identity: Mapping[str, Any], scene: Scene) -> Cost:
    """What the prior of a view of middling size takes."""
    camera = scene.typical_camera
    megapixels = camera.width * camera.height / 1e6
    if identity["prior"] == "maps":
        return Cost(seconds=_MAPS_SECONDS * megapixels, bytes=int(_MAPS_BYTES * megapixels))
    if identity["prior"] == SWEEP:
        settings = request.config.depth.sweep
        grid = WorkGrid.for_photo(camera, **settings.grid)
        cells = grid.shape[0] * grid.shape[1]
        return Cost(
            seconds=_SWEEP_SECONDS * cells / 1e6,
            bytes=int(_MAPS_BYTES * megapixels) + _SWEEP_BYTES * settings.planes * cells,
            cache_bytes=_SWEEP_CACHE * 5 * cells,
            gpu=gpu_share(request.config),
        )
    return cost_of_network(request, checkpoint_of(request, identity))


def cost_of_network(request: RunRequest, checkpoint: Checkpoint) -> Cost:
    """What a network takes for a photo."""
    device = request.config.runtime.device
    on_gpu = device == DeviceName.MPS or (device != DeviceName.CPU and bool(gpus()))
    return Cost(seconds=_NETWORK_SECONDS, bytes=weights_bytes(checkpoint), gpu=float(on_gpu))


def weights_bytes(checkpoint: Checkpoint) -> int:
    """Memory of a network with the libraries that it needs."""
    weights = [path for path in checkpoint.folder.glob("*.safetensors") if path.is_file()]
    return _NETWORK_BYTES + 2 * sum(path.stat().st_size for path in weights)


def describe(identity: Mapping[str, Any]) -> str:
    """The prior in a few words."""
    if identity["prior"] == "maps":
        return f"the given {identity['kind']} maps"
    if identity["prior"] == SWEEP:
        return "the plane sweep"
    if identity["model"] == LOCAL:
        return "the given network"
    return str(identity["model"])


def prior_note(request: RunRequest, identity: Mapping[str, Any]) -> str:
    """What the user is told about the choice: that `auto` had to be the sweep, or that a network's
    values are taken for another kind than they stand for; else empty."""
    if identity["prior"] == "network" and request.config.depth.kind is not None:
        folder = local_folder(request.config.depth.model)
        if identity["model"] != LOCAL:
            cached = cached_checkpoint(identity["model"], identity["revision"])
            folder = None if cached is None else cached.folder
        if folder is None:  # nothing is left to do for it
            return ""
        return kind_note(read_configuration(folder), request.config.depth.kind)
    asked = request.inputs.depth_maps is None and request.config.depth.model == AUTO
    return FALLBACK_NOTE if asked and identity["prior"] == SWEEP else ""


def _found_before(request: RunRequest, finished: Manifest | None) -> dict[str, Any] | None:
    """What a finished stage found for the same model and revision; None where it was asked for
    another."""
    settings = request.config.depth
    if finished is None or settings.model != finished.summary.get("requested"):
        return None
    if settings.revision != finished.summary.get("requested_revision"):
        return None
    found = finished.inputs
    if found.get("prior") == SWEEP:
        return _sweep(request)
    if found.get("prior") != "network":
        return None
    return _identity(request, found["model"], found["revision"])


def at_hand(workspace: Workspace, model: str, revision: str | None) -> Checkpoint:
    """The checkpoint where it is at hand and has been read before; else raises `NotKnownYet`."""

    def known(path: Path) -> str:
        digest = workspace.known_hash(path)
        if digest is None:
            raise NotKnownYet(f"weights in {path.parent} are looked up when the stage runs")
        return digest

    checkpoint = cached_checkpoint(model, revision, digest=known)
    if checkpoint is None:
        raise NotKnownYet(f"weights of {model} are looked up when the stage runs")
    return checkpoint


def checkpoint_of(request: RunRequest, identity: Mapping[str, Any]) -> Checkpoint:
    """The files of the network that `identity` stands for."""
    if identity["model"] != LOCAL:
        return find_checkpoint(identity["model"], identity["revision"])
    folder = local_folder(request.config.depth.model)
    if folder is None:
        raise InputError("no such folder of weights.", subject=request.config.depth.model)
    return Checkpoint(model=LOCAL, revision=identity["revision"], folder=folder)


def _sweep(request: RunRequest) -> dict[str, Any]:
    return {"prior": SWEEP, "settings": request.config.depth.sweep.result_fields()}


def _network(request: RunRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    """Refuses a kind that contradicts the checkpoint before anything is made."""
    settle_kind(read_configuration(checkpoint.folder), request.config.depth.kind, checkpoint.folder)
    return _identity(request, checkpoint.model, checkpoint.revision)


def _identity(request: RunRequest, model: str, revision: str) -> dict[str, Any]:
    kind = request.config.depth.kind
    return {
        "prior": "network",
        "model": model,
        "revision": revision,
        **({} if kind is None else {"kind": kind.value}),
    }
