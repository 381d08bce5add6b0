"""A whole run from Python: what `refdepth reconstruct` does, without the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refdepth.errors import ConfigurationError, InputError
from refdepth.pipeline.choose_executor import choose_executor
from refdepth.pipeline.config import (
    RunConfig,
    RunInputs,
    RunRequest,
    build_config,
)
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.lock import WorkspaceLock
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.report import write_report
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.checkpoints import AUTO, SWEEP, local_folder
from refdepth.settings import Quality
from refdepth.types.prior import PriorKind


def reconstruct(
    images: str | Path,
    out: str | Path,
    *,
    quality: Quality | str = Quality.BALANCED,
    depth_model: str | None = None,
    depth_maps: str | Path | None = None,
    depth_kind: str | None = None,
    depth_unit: float | None = None,
    normal_maps: str | Path | None = None,
    masks: str | Path | None = None,
    model: str | Path | None = None,
    poses: str | Path | None = None,
    views: str | Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    resume: bool = True,
    workers: int | str | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Turns the photos in `images` (or a video) into depth maps and a cloud in the folder `out`.

    What is valid there is reused, unless `resume` is False. `settings` are those of
    `refdepth config`, by dotted name; the other options are those of `refdepth reconstruct`. Where
    Ray is initialised already, `cluster` uses that connection and leaves it open. What happens goes
    to Python's logging, under `refdepth`.
    Raises a `RefdepthError` that says what to do.

    Example::

        results = refdepth.reconstruct("photos", "out", settings={"prepare.max_size": 1600})
        for name in results.views("refine"):
            depth = results.refined(name).depth  # (H, W) float32, SfM units, 0 unknown
        cloud = results.cloud()  # .points (N, 3), .normals, .colors, .confidence
    """
    config = build_config(
        quality=quality_of(quality),
        options={
            "depth.model": depth_model,
            "depth.kind": depth_kind,
            "depth.maps_unit": depth_unit,
            "runtime.workers": workers,
            **(settings or {}),
        },
    )
    refuse_combinations(
        config,
        model=model,
        poses=poses,
        depth_maps=depth_maps,
        depth_kind=depth_kind,
        depth_model=depth_model,
        depth_unit=depth_unit,
    )
    request = build_request(
        config,
        images=Path(images),
        masks=masks,
        model=model,
        poses=poses,
        depth_maps=depth_maps,
        normal_maps=normal_maps,
        views=(views,) if isinstance(views, str) else views,
    )
    workspace = output_folder(Path(out))
    with WorkspaceLock(workspace.root):
        workspace.clean()
        workspace.write_request(request)
        request = request.for_command(cluster=cluster)
        executor = choose_executor(workspace.root, request)
        try:
            engine = Engine(workspace, request, progress=progress, executor=executor)
            engine.reconstruct(resume=resume)
            write_report(workspace, executor, progress=progress)
        finally:
            executor.close()
            workspace.save_hashes()
    return Results(workspace)


def quality_of(name: Quality | str) -> Quality:
    """The quality called `name`. Raises `ConfigurationError` where there is none."""
    try:
        return Quality(name)
    except ValueError:
        raise ConfigurationError(
            "is not a quality.",
            subject=f"--quality {name}",
            action=f"Use one of {', '.join(Quality)}.",
        ) from None


def build_request(
    config: RunConfig,
    *,
    images: Path,
    masks: str | Path | None = None,
    model: str | Path | None = None,
    poses: str | Path | None = None,
    depth_maps: str | Path | None = None,
    normal_maps: str | Path | None = None,
    views: Sequence[str] = (),
) -> RunRequest:
    """What is asked of a workspace, with absolute paths.

    Raises `InputError` for what is not there.
    """
    return RunRequest(
        inputs=RunInputs(
            images=_existing(images, "IMAGES"),
            masks=_optional(masks, "--masks"),
            model=_optional(model, "--model"),
            poses=_optional(poses, "--poses"),
            depth_maps=_optional(depth_maps, "--depth-maps"),
            normal_maps=_optional(normal_maps, "--normal-maps"),
            views=tuple(views),
        ),
        config=_with_absolute_models(config),
    )


def refuse_combinations(
    config: RunConfig,
    *,
    model: str | Path | None,
    poses: str | Path | None,
    depth_maps: str | Path | None,
    depth_kind: str | None,
    depth_model: str | None,
    depth_unit: float | None,
) -> None:
    """Raises `ConfigurationError` for options that contradict each other or lack another."""
    if model is not None and poses is not None:
        raise ConfigurationError(
            "give cameras twice.", subject="--model and --poses", action="Give one of them."
        )
    if depth_maps is not None and depth_model is not None:
        raise ConfigurationError(
            "give depth twice.",
            subject="--depth-maps and --depth-model",
            action="Give one of them.",
        )
    kind = config.depth.kind if depth_maps is not None else None
    if depth_maps is not None and kind is None:
        raise ConfigurationError(
            "is needed with --depth-maps.",
            subject="--depth-kind",
            action="Give inverse_affine, affine or metric.",
        )
    if depth_maps is None and depth_kind is not None and config.depth.model in (AUTO, SWEEP):
        raise ConfigurationError(
            "says what --depth-maps or a network of your own hold; that of"
            f" --depth-model {config.depth.model} is known.",
            subject="--depth-kind",
            action="Give --depth-maps or a named --depth-model with it, or leave it out.",
        )
    if depth_unit is not None and kind != PriorKind.METRIC:
        raise ConfigurationError(
            "declares the unit of metric depth maps.",
            subject="--depth-unit",
            action="Give it with --depth-maps and --depth-kind metric.",
        )


def output_folder(out: Path) -> Workspace:
    """The workspace at `out`, which need not be there. Raises `InputError` when it is a file."""
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise InputError("is a file.", subject=out, action="Name a folder for the output.")
    return Workspace(out)


def _with_absolute_models(config: RunConfig) -> RunConfig:
    """Checkpoint folders are found again from wherever a later command is run."""
    folder = local_folder(config.depth.model)
    if folder is not None:
        depth = config.depth.model_copy(update={"model": str(folder.resolve())})
        config = config.model_copy(update={"depth": depth})
    refine = config.refine
    folder = local_folder(refine.upsampler.model)
    if folder is not None:
        upsampler = refine.upsampler.model_copy(update={"model": str(folder.resolve())})
        refine = refine.model_copy(update={"upsampler": upsampler})
        config = config.model_copy(update={"refine": refine})
    return config


def _optional(path: str | Path | None, option: str) -> str | None:
    return None if path is None else _existing(Path(path), option)


def _existing(path: Path, option: str) -> str:
    if not path.exists():
        raise InputError("does not exist.", subject=path, action=f"Check {option}.")
    return str(path.resolve())
