"""Stage `depth`: one prior a view, from a network, the plane sweep or the user's own maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError, StageError
from refdepth.geometry.grid import WorkGrid
from refdepth.io.normal_files import unit
from refdepth.pipeline.compact import packed
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.devices import aside, check_device, count_places
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.priors import (
    choose_prior,
    cost_of,
    describe,
    open_prior,
    prior_note,
)
from refdepth.pipeline.stage import Brief, StageContext, StageOutcome
from refdepth.pipeline.views import input_photos, load_scene, photo_names
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.normals import GivenNormals, on_grid
from refdepth.types.prior import Prior, PriorKind

logger = logging.getLogger(__name__)

Normals = tuple[NDArray[np.float32], int]
"""Unit normals (h, w, 3) for blocks of pixels, and how many pixels a block has along a side."""
_LEVELS = 127
"""Of a stored component: half a degree."""


class DepthStage:
    """Undistorted photos in, one prior a view out."""

    name = "depth"
    version = 9
    upstream = ("sfm",)

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """Nothing: what determines the prior is in `inputs`, resolved."""
        return {}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Which prior is used, with its revision or content. Before a run a device that cannot be
        had is refused."""
        if not looking:
            check_device(request.config.runtime.device)
        finished = Manifest.read(workspace.stage_dir(self.name))
        identity = choose_prior(workspace, request, finished, looking=looking)
        normals = request.inputs.path("normal_maps")
        if normals is None:
            return identity
        if not normals.is_dir():
            raise InputError("no such folder of normal maps.", subject=normals)
        return identity | {"normal_maps": workspace.folder_hash(normals)}

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """None: all of it is made."""
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """Finished views of all undistorted ones."""
        folder = workspace.stage_dir("sfm") / "undistorted" / "images"
        names = [path.name for path in folder.glob("*") if path.is_file()]
        items = ItemStore(workspace.stage_dir(self.name), fingerprint)
        return (sum(items.is_done(name) for name in names), len(names)) if names else None

    def run(self, context: StageContext) -> StageOutcome:
        """Estimates the priors that are missing."""
        note = prior_note(context.request, context.inputs)
        if note:
            logger.warning("%s", note)
            context.progress.note(note)
        scene = load_scene(context.workspace)
        items = context.items()
        left = [name for name in scene.names if not items.is_done(name)]
        if left:  # else no network is asked for
            context.perform(
                "estimating depth",
                Priors(brief=context.brief, cost=cost_of(context.request, context.inputs, scene)),
                left,
                done=len(scene) - len(left),
            )
        items.remove_others(scene.names)
        records = {name: items.record(name) for name in scene.names}
        silent = [name for name, record in records.items() if record["known_share"] == 0]
        made_on = count_places(records.values())
        if len(silent) == len(scene):
            raise StageError(
                "the prior says nothing about any view.",
                subject=describe(context.inputs),
                action="Give other depth maps or another --depth-model.",
            )
        names = photo_names(context.workspace)
        without = [names.own(name) for name in silent]
        return StageOutcome(
            files=items.paths(scene.names),
            summary={
                "views": len(scene),
                "requested": context.config.depth.model,
                "requested_revision": context.config.depth.revision,
                "prior": describe(context.inputs),
                "without_prior": without,
                "made_on": made_on,
            },
            headline=f"{len(scene) - len(silent)} priors from {describe(context.inputs)}"
            + aside(made_on),
            warnings=[*([note] if note else []), *(f"{name}: has no prior" for name in without)],
        )


@dataclass(frozen=True, kw_only=True)
class Priors:
    """The prior of a view."""

    brief: Brief
    cost: Cost

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene, and the network where it is one."""
        scene = load_scene(self.brief.workspace)
        items = self.brief.items()
        estimate = open_prior(
            self.brief.workspace,
            self.brief.request,
            self.brief.inputs,
            scene,
            cache_bytes=desk.cache_bytes,
        )
        workspace, folder = self.brief.workspace, self.brief.request.inputs.path("normal_maps")
        given = None
        if folder is not None:
            given = GivenNormals(folder, photo_names(workspace), input_photos(workspace))

        def make(name: str) -> None:
            if not items.is_done(name):
                _write(
                    items, name, *estimate(scene[name]), given.of(scene[name]) if given else None
                )

        return make


def load_prior(items: ItemStore, name: str) -> Prior:
    """The stored prior of a view, at the resolution it has."""
    arrays, record = items.arrays(name), items.record(name)
    return Prior(
        values=arrays["values"],
        kind=PriorKind(record["kind"]),
        confidence=arrays.get("confidence"),
        in_metres=bool(record["in_metres"]),
        step=(float(record["step"][0]), float(record["step"][1])),
    )


def load_normals(items: ItemStore, name: str, grid: WorkGrid) -> NDArray[np.float32] | None:
    """The stored normals of a view on its working `grid` (h, w, 3), in camera axes, 0 where they
    are unknown; None where it has none."""
    step = items.record(name).get("normals_step")
    if step is None:
        return None
    stored = items.arrays(name)["normals"].astype(np.float32)
    return on_grid(unit(stored), int(step), grid.shape, grid.factor)


def _write(items: ItemStore, name: str, prior: Prior, device: str, normals: Normals | None) -> None:
    arrays: dict[str, NDArray[Any]] = {**packed(values=prior.values, confidence=prior.confidence)}
    if normals is not None:
        arrays["normals"] = np.rint(normals[0] * _LEVELS).astype(np.int8)
    items.write(
        name,
        arrays,
        {
            "kind": prior.kind.value,
            "in_metres": prior.in_metres,
            "step": list(prior.step),
            "known_share": float(np.isfinite(prior.values).mean()),
            "device": device,
            **({} if normals is None else {"normals_step": normals[1]}),
        },
    )
