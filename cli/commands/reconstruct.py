"""`refdepth reconstruct`: from photos to a point cloud."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refdepth.cli.options import Debug, Quiet, Wait

if TYPE_CHECKING:
    from refdepth.pipeline.config import RunConfig
    from refdepth.settings import Quality

_GIVEN = "What you already have"
_RUN = "The run"


def reconstruct(
    images: Annotated[Path, typer.Argument(help="Folder of photos (sub-folders too), or a video.")],
    out: Annotated[Path, typer.Argument(help="Output folder; what is valid there is reused.")],
    quality: Annotated[
        str | None,
        typer.Option(
            help="Time for accuracy: fast, balanced, high, or paper (the published method)."
            " \\[default: balanced]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="One setting, for example refine.iterations=12; may be repeated. `refdepth config"
            " --explain` lists those people touch.",
            show_default=False,
        ),
    ] = None,
    depth_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|sweep|auto",
            help="Depth network (hub id or checkpoint folder), sweep (built in, no weights), or"
            " auto (Depth Anything V2 Small where it can be had, else sweep). \\[default: auto]",
            show_default=False,
        ),
    ] = None,
    depth_maps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Own depth maps, NAME.npy, .npz, .png (16 bit) or .tif, in the photos' grid.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    depth_kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What --depth-maps hold: inverse_affine (1/z = a x + b), affine (z = a x + b)"
            " or metric (z = a x).",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    depth_unit: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            help="Metres in one unit of metric --depth-maps, or one level of 16-bit PNG: 0.001 for"
            " millimetres; without it no metres are claimed.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Masks NAME.png or NAME.jpg.png; black is not used.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="COLMAP_DIR",
            help="COLMAP model of the photos; SfM is skipped.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="transforms.json with poses; points are triangulated with the poses held fixed.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    views: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Refine and fuse only the views that match; may be repeated.",
            show_default=False,
        ),
    ] = None,
    renderer: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|nvdiffrast",
            help="Renderer of the refinement. \\[default: auto]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda",
            help="Where networks and renderer run. CUDA and CPU agree closely, not to the bit; each"
            " view's record says which it was. \\[default: auto]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="Memory to stay within where work can be split."
            " \\[default: three quarters of what is free]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of all random choices. \\[default: 0]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT",
            help="Also write OUT/export/FORMAT: colmap, nerfstudio, depth, splat, mesh or cloud;"
            " may be repeated.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Stop after this stage: prepare, sfm, depth, scale, refine or fuse.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Reuse what is valid, or make everything again.",
            rich_help_panel=_RUN,
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done, and stop.", rich_help_panel=_RUN),
    ] = False,
    wait: Wait = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn photos into depth maps and a coloured point cloud.

    Stages whose result is still valid are reused; an interrupted run goes on where it stopped.
    """
    from refdepth.cli.session import report_on, working_on
    from refdepth.cli.summary import print_plan, print_summary
    from refdepth.errors import ConfigurationError
    from refdepth.pipeline.config import RunInputs, RunRequest, build_config
    from refdepth.pipeline.engine import Engine, stage_names
    from refdepth.pipeline.exports import export as write_exports
    from refdepth.pipeline.exports import parse_formats
    from refdepth.pipeline.workspace import Workspace

    if until is not None and until not in stage_names():
        raise ConfigurationError(
            "is not a stage.",
            subject=f"--until {until}",
            action=f"Use one of {', '.join(stage_names())}.",
        )
    formats = parse_formats(export) if export else ()
    _refuse_combinations(model, poses, depth_maps, depth_kind, depth_model, depth_unit)
    settings = build_config(
        quality=quality_of(quality),
        config_file=config,
        assignments=set_ or (),
        options={
            "depth.model": depth_model,
            "depth.kind": depth_kind,
            "depth.maps_unit": depth_unit,
            "runtime.renderer": renderer,
            "runtime.device": device,
            "runtime.max_memory_gb": max_memory,
            "runtime.seed": seed,
        },
    )
    request = RunRequest(
        inputs=RunInputs(
            images=_existing(images, "IMAGES"),
            masks=_optional(masks, "--masks"),
            model=_optional(model, "--model"),
            poses=_optional(poses, "--poses"),
            depth_maps=_optional(depth_maps, "--depth-maps"),
            views=tuple(views or ()),
        ),
        config=_with_absolute_model(settings),
    )
    workspace = Workspace(_output(out))
    if dry_run:
        print_plan(Engine(workspace, request).status(), until)
        return
    # Going on after an interruption means keeping what it has left.
    again = [argument for argument in sys.argv[1:] if argument != "--no-resume"]
    command = shlex.join(["refdepth", *again])
    with working_on(
        workspace, request, quiet=quiet, debug=debug, wait=wait, go_on=command
    ) as engine:
        statuses = engine.reconstruct(until=until, resume=resume)
        if formats:
            write_exports(
                workspace,
                formats,
                force=True,
                progress=engine.progress,
                cancellation=engine.cancellation,
            )
        report_on(workspace)
    print_summary(workspace, statuses)


def quality_of(name: str | None) -> Quality | None:
    """The quality called `name`; raises `ConfigurationError` where there is none."""
    from refdepth.errors import ConfigurationError
    from refdepth.settings import Quality

    if name is None:
        return None
    try:
        return Quality(name)
    except ValueError:
        raise ConfigurationError(
            "is not a quality.",
            subject=f"--quality {name}",
            action=f"Use one of {', '.join(Quality)}.",
        ) from None


def _with_absolute_model(settings: RunConfig) -> RunConfig:
    """A checkpoint folder is found again from wherever a later command is run."""
    from refdepth.priors.checkpoints import local_folder

    folder = local_folder(settings.depth.model)
    if folder is None:
        return settings
    depth = settings.depth.model_copy(update={"model": str(folder.resolve())})
    return settings.model_copy(update={"depth": depth})


def _optional(path: Path | None, option: str) -> str | None:
    return None if path is None else _existing(path, option)


def _existing(path: Path, option: str) -> str:
    from refdepth.errors import InputError

    if not path.exists():
        raise InputError("does not exist.", subject=path, action=f"Check {option}.")
    return str(path.resolve())


def _output(out: Path) -> Path:
    from refdepth.errors import InputError

    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise InputError("is a file.", subject=out, action="Name a folder for the output.")
    return out


def _refuse_combinations(
    model: Path | None,
    poses: Path | None,
    depth_maps: Path | None,
    depth_kind: str | None,
    depth_model: str | None,
    depth_unit: float | None,
) -> None:
    from refdepth.errors import ConfigurationError

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
    if (depth_maps is None) != (depth_kind is None):
        raise ConfigurationError(
            "belong together.",
            subject="--depth-maps and --depth-kind",
            action="Give both: the folder, and inverse_affine, affine or metric.",
        )
    if depth_unit is not None and depth_kind != "metric":
        raise ConfigurationError(
            "declares the unit of metric depth maps.",
            subject="--depth-unit",
            action="Give it with --depth-maps and --depth-kind metric.",
        )
