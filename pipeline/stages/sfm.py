"""Stage `sfm`: cameras, poses and sparse points, and the photos without lens distortion."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refdepth.ingest import NameTable, PreparedPhoto
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.focal_lengths import NETWORK, focal_lengths, focal_network
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.stages.reading import IMAGES, MASKS
from refdepth.pipeline.workspace import Workspace
from refdepth.sfm.summary import SfmSummary

_FEW_REGISTERED = 0.8
"""Below this share of photos with a pose the user is told."""


class SfmStage:
    """Prepared pictures in; database, sparse model and a COLMAP dense workspace out."""

    name = "sfm"
    version = 7
    upstream = ("prepare",)

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The SfM settings and the seed."""
        return {**config.sfm.result_fields(), "seed": config.runtime.seed}

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Content of a given model, given poses or a given vocabulary; the network that says how
        wide lenses are."""
        identity: dict[str, Any] = {}
        vocabulary = request.config.sfm.vocabulary
        if vocabulary is not None:
            known = Path(vocabulary).is_file()  # else the stage says so
            identity["vocabulary"] = workspace.content_hash(Path(vocabulary)) if known else None
        model, poses = request.inputs.path("model"), request.inputs.path("poses")
        if model is not None:
            identity["model"] = workspace.folder_hash(model)
        if poses is not None:
            identity["poses"] = workspace.content_hash(poses)
        network = focal_network(workspace, request, looking=looking)
        if network is not None:
            identity[NETWORK] = network
        return identity

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """None: all of it is made."""
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """The stage is all or nothing; its database is continued all the same."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Finds, or takes over, the cameras."""
        prepared = context.workspace.stage_dir("prepare")
        photos = read_table(context.workspace)
        masks = prepared / MASKS
        common: dict[str, Any] = {
            "masks": masks if any(masks.glob("*.png")) else None,
            "progress": lambda label, done, total: context.progress.step(label, done, total),
            "cancelled": lambda: context.cancellation.requested,
            "seed": context.config.runtime.seed,
            "threads": context.config.runtime.threads,
            "memory_mb": context.memory.features / 2**20,
        }
        inputs = (prepared / IMAGES, photos, context.folder, context.config.sfm)
        model, poses = context.given.path("model"), context.given.path("poses")
        if model is not None:
            from refdepth.sfm.model_entry import use_model

            summary = use_model(model, *inputs, **common)
        elif poses is not None:
            from refdepth.sfm.poses_entry import use_poses

            summary = use_poses(poses, *inputs, **common)
        else:
            from refdepth.sfm.mapping import reconstruct

            told = focal_lengths(context, photos)
            summary = reconstruct(*inputs, focal_px=told, **common)
        _drop_empty(context.folder / "undistorted" / "masks")
        return _outcome(context.folder, _by_photo(summary, NameTable.of(photos)), photos)


def _by_photo(summary: SfmSummary, names: NameTable) -> SfmSummary:
    """The summary with the photos' own names."""
    return replace(
        summary,
        registered=tuple(map(names.own, summary.registered)),
        failed=tuple(map(names.own, summary.failed)),
        other_models=tuple(tuple(map(names.own, model)) for model in summary.other_models),
    )


def _drop_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(folder: Path, summary: SfmSummary, photos: Sequence[PreparedPhoto]) -> StageOutcome:
    files = [
        path
        for part in ("sparse", "undistorted")
        for path in (folder / part).rglob("*")
        if path.is_file()
    ]
    warnings = list(summary.warnings)
    given = {photo.original: photo.given for photo in photos}  # a panorama counts once
    placed, count = len({given[name] for name in summary.registered}), len(set(given.values()))
    what = "panoramas" if all(photo.face is not None for photo in photos) else "photos"
    if placed < _FEW_REGISTERED * count:
        warnings.append(
            f"only {placed} of {count} {what} have a pose; more overlap between neighbouring"
            f" {what} helps"
        )
    error = summary.mean_reprojection_error_px
    return StageOutcome(
        files=files,
        summary=summary.to_dict(),
        headline=f"{placed} of {count} {what} placed, {summary.points:,} points,"
        f" {error:.2f} px error",
        warnings=warnings,
    )
