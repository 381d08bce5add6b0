"""The network that adds detail to refined depth: which one a run uses, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from refdepth.errors import ConfigurationError, InputError, UnavailableError
from refdepth.geometry.grid import WorkGrid
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.priors import at_hand, weights_bytes
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.checkpoints import LOCAL, Checkpoint, find_checkpoint, local_folder
from refdepth.priors.network_kinds import check_prompted, read_configuration
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.priors.prompted import PromptedNetwork

UPSAMPLER = "upsampler"
"""Under which the stage's inputs have the network's identity."""
REQUESTED = "upsampler_requested"
"""Under which the stage's summary has what it was asked for as."""
_SETTING = "refine.upsampler.model"
_SECONDS, _BYTES, _PHOTO_BYTES = 20.0, 900, 20
"""Of a core, for a megapixel that the network sees; memory for each of its pixels, the comparison
with the neighbours among it, and for each of the photo's."""


def upsampler_identity(
    workspace: Workspace, request: RunRequest, *, looking: bool
) -> Mapping[str, Any]:
    """Model and revision of the network, under `UPSAMPLER`; empty where none is asked for.

    A hub model keeps to the revision that a finished stage found for the same request. One who is
    only `looking` downloads nothing and reads no weights: `NotKnownYet` is raised where that would
    be needed. Raises `ConfigurationError` for what is no such network, `UnavailableError` for one
    that cannot be had.
    """
    if not request.config.refine.upsamples:
        return {}
    asked = request.config.refine.upsampler
    finished = Manifest.read(workspace.stage_dir("refine"))
    found = None
    if finished is not None and finished.summary.get(REQUESTED) == requested(request.config):
        found = finished.inputs.get(UPSAMPLER)
    try:
        if found is not None and local_folder(asked.model) is None:
            if looking or found["model"] == LOCAL:  # of a folder that is gone
                return {UPSAMPLER: found}
            checkpoint = find_checkpoint(found["model"], found["revision"])
        elif looking:
            checkpoint = at_hand(workspace, asked.model, asked.revision)
        else:
            checkpoint = find_checkpoint(asked.model, asked.revision, digest=workspace.content_hash)
        check_prompted(read_configuration(checkpoint.folder), checkpoint.folder)
    except InputError as error:
        raise ConfigurationError(
            f"cannot be used ({error.subject}: {error.message.rstrip('.')}).",
            subject=_SETTING,
            action="Give a hub id or a folder written by save_pretrained(), or leave it empty.",
        ) from error
    except UnavailableError as error:
        raise UnavailableError(
            error.message,
            subject=error.subject,
            action=f"With a network, run `hf download {asked.model}`, or give a checkpoint folder;"
            f" without {_SETTING} nothing is needed.",
        ) from error
    return {UPSAMPLER: {"model": checkpoint.model, "revision": checkpoint.revision}}


def requested(config: RunConfig) -> list[str | None] | None:
    """As what the network was asked for; None where none was."""
    asked = config.refine.upsampler
    return [asked.model, asked.revision] if config.refine.upsamples else None


def open_upsampler(request: RunRequest, inputs: Mapping[str, Any]) -> PromptedNetwork | None:
    """The network that a stage's `inputs` name; None where they name none."""
    if UPSAMPLER not in inputs:
        return None
    from refdepth.priors.prompted import PromptedNetwork

    return PromptedNetwork(_checkpoint(request, inputs[UPSAMPLER]))


def with_upsampler(
    cost: Cost, scene: Scene, request: RunRequest, inputs: Mapping[str, Any]
) -> Cost:
    """`cost` of a second round of middling size, with what the network adds."""
    if UPSAMPLER not in inputs:
        return cost
    camera, settings = scene.typical_camera, request.config.refine
    grid = WorkGrid.for_photo(camera, **settings.upsampler_grid)
    if grid.factor == WorkGrid.for_photo(camera, **settings.grid).factor:
        return cost
    cells, pixels = grid.shape[0] * grid.shape[1], camera.width * camera.height
    weights = weights_bytes(_checkpoint(request, inputs[UPSAMPLER]))
    return replace(
        cost,
        seconds=cost.seconds + _SECONDS * cells / 1e6,
        bytes=cost.bytes + weights + _BYTES * cells + _PHOTO_BYTES * pixels,
    )


def _checkpoint(request: RunRequest, identity: Mapping[str, Any]) -> Checkpoint:
    if identity["model"] != LOCAL:
        return find_checkpoint(identity["model"], identity["revision"])
    asked = request.config.refine.upsampler.model
    folder = local_folder(asked)
    if folder is None:
        raise InputError("no such folder of weights.", subject=asked)
    return Checkpoint(model=LOCAL, revision=identity["revision"], folder=folder)
