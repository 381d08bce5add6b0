"""Stage `depth`: one prior a view, from a network, the plane sweep or the user's own maps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config import RunConfig, RunRequest
from pipeline.items import ItemStore
from pipeline.manifest import Manifest
from pipeline.priors import choose_prior, open_prior
from pipeline.stage import StageContext, StageOutcome
from pipeline.views import load_scene
from pipeline.workspace import Workspace
from refdepth.errors import StageError
from refdepth.prior.base import Prior, PriorKind

logger = logging.getLogger(__name__)


class DepthStage:
    """Undistorted photos in, one prior a view out."""

    name = "depth"
    version = 1
    upstream = ("sfm",)

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """Nothing: what determines the prior is in `inputs`, resolved."""
        return {}

    def inputs(self, workspace: Workspace, request: RunRequest) -> Mapping[str, Any]:
        """Which prior is used, with its revision or content."""
        before = Manifest.read(workspace.stage_dir(self.name))
        recorded = before.inputs if before is not None else {}
        return choose_prior(workspace, request, recorded).identity

    def progress_of(self, workspace: Workspace, fingerprint: str) -> tuple[int, int] | None:
        """Finished views of all undistorted ones."""
        folder = workspace.stage_dir("sfm") / "undistorted" / "images"
        names = [path.name for path in folder.glob("*") if path.is_file()]
        items = ItemStore(workspace.stage_dir(self.name), fingerprint)
        return (sum(items.is_done(name) for name in names), len(names)) if names else None

    def run(self, context: StageContext) -> StageOutcome:
        """Estimates the priors that are missing."""
        choice = choose_prior(context.workspace, context.request, context.inputs)
        if choice.note:
            logger.warning("%s", choice.note)
            context.progress.note(choice.note)
        scene = load_scene(context.workspace)
        items = context.items()
        left = [name for name in scene.names if not items.is_done(name)]
        failed: dict[str, str] = {}
        if left:
            source = open_prior(context.workspace, context.request, choice, scene)
            for name in left:
                context.cancellation.check()
                context.progress.step(
                    "estimating depth", len(scene) - len(left) + left.index(name), len(scene)
                )
                prior = source.estimate(scene[name], scene)
                _write(items, name, prior)
        items.remove_others(scene.names)
        for name in scene.names:
            record = items.record(name)
            if record.get("known_share", 1.0) == 0.0:
                failed[name] = "the prior says nothing about this view"
        if len(failed) == len(scene):
            raise StageError(
                "the prior says nothing about any view.",
                subject=str(choice.identity.get("prior")),
                action="Give other depth maps or another --depth-model.",
            )
        return StageOutcome(
            files=items.paths(scene.names),
            summary={
                "views": len(scene),
                "requested": choice.requested,
                "prior": dict(choice.identity),
                "note": choice.note,
            },
            headline=f"{len(scene)} priors from {choice.label}",
            warnings=[
                *([choice.note] if choice.note else []),
                *(f"{name}: {why}" for name, why in failed.items()),
            ],
        )


def load_prior(items: ItemStore, name: str) -> Prior:
    """The stored prior of a view."""
    arrays, record = items.arrays(name), items.record(name)
    return Prior(
        values=arrays["values"],
        kind=PriorKind(record["kind"]),
        confidence=arrays.get("confidence"),
        in_metres=bool(record["in_metres"]),
    )


def _write(items: ItemStore, name: str, prior: Prior) -> None:
    arrays = {"values": prior.values}
    if prior.confidence is not None:
        arrays["confidence"] = prior.confidence
    items.write(
        name,
        arrays,
        {
            "kind": prior.kind.value,
            "in_metres": prior.in_metres,
            "known_share": float(np.isfinite(prior.values).mean()),
        },
    )
