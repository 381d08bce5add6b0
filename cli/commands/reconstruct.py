"""`refdepth reconstruct`: from photos to a point cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import (
    Debug,
    Distances,
    Gps,
    Quiet,
    TagFamily,
    TagSize,
    Wait,
    device_option,
    given_again,
    parse_workers,
    renderer_option,
)

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
            " or metric (z = a x); also of a --depth-model whose configuration leaves it open.",
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
    normal_maps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Own surface normals, NAME.npy, .npz or .png (8 bit), in camera axes (x right, y"
            " down, z forward) towards the camera: slants that the refinement tries.",
            show_default=False,
            rich_help_panel=_GIVEN,
        ),
    ] = None,
    panoramas: Annotated[
        str | None,
        typer.Option(
            metavar="auto|yes|no",
            help="360 degree pictures (equirectangular) among the photos: by their metadata or"
            " looks, all, or none. \\[default: auto]",
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
    renderer: Annotated[str | None, renderer_option(_RUN)] = None,
    device: Annotated[str | None, device_option(_RUN)] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Processes that work on photos and views side by side."
            " \\[default: auto, as many as cores and memory allow]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Work on a Ray cluster: HOST:PORT of its head, auto (the one this machine is part"
            " of) or local (started here, for this run); --workers then limits the tasks at a"
            " time. See docs/cluster.md.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="Memory to stay within where work can be split, all processes together."
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
            help="Also write OUT/export/FORMAT: colmap, nerfstudio, depth, splat, graphdeco,"
            " gsplat, openmvs, mesh or cloud; may be repeated.",
            show_default=False,
        ),
    ] = None,
    metres: Annotated[
        bool,
        typer.Option("--metres", help="Write exports in metres, z up where up is known."),
    ] = False,
    distance: Distances = None,
    tag_size: TagSize = None,
    tag_family: TagFamily = "apriltag_36h11",
    gps: Gps = None,
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
    from refdepth.pipeline.api import (
        build_request,
        output_folder,
        quality_of,
        refuse_combinations,
    )
    from refdepth.pipeline.config import build_config
    from refdepth.pipeline.devices import check_device
    from refdepth.pipeline.engine import Engine, stage_names
    from refdepth.pipeline.engines import check_engine
    from refdepth.pipeline.exports import ExportOptions, parse_formats, refuse_metres
    from refdepth.pipeline.exports import export as write_exports
    from refdepth.pipeline.measure_scale import ScaleOptions, measure_scale

    if until is not None and until not in stage_names():
        raise ConfigurationError(
            "is not a stage.",
            subject=f"--until {until}",
            action=f"Use one of {', '.join(stage_names())}.",
        )
    formats = parse_formats(export) if export else ()
    if metres:
        refuse_metres(formats)
    scale = ScaleOptions(
        distances=tuple(distance or ()), tag_size=tag_size, tag_family=tag_family, gps=gps
    )
    if scale.wanted and until is not None and until != stage_names()[-1]:
        raise ConfigurationError(
            "need the whole run.",
            subject="--distance, --tag-size and --gps",
            action="Leave --until out, or run `refdepth scale-to` afterwards.",
        )
    settings = build_config(
        quality=None if quality is None else quality_of(quality),
        config_file=config,
        assignments=set_ or (),
        options={
            "prepare.panoramas": panoramas,
            "depth.model": depth_model,
            "depth.kind": depth_kind,
            "depth.maps_unit": depth_unit,
            "runtime.renderer": renderer,
            "runtime.device": device,
            "runtime.workers": parse_workers(workers),
            "runtime.max_memory_gb": max_memory,
            "runtime.seed": seed,
        },
    )
    refuse_combinations(
        settings,
        model=model,
        poses=poses,
        depth_maps=depth_maps,
        depth_kind=depth_kind,
        depth_model=depth_model,
        depth_unit=depth_unit,
    )
    request = build_request(
        settings,
        images=images,
        masks=masks,
        model=model,
        poses=poses,
        depth_maps=depth_maps,
        normal_maps=normal_maps,
        views=views or (),
    )
    workspace = output_folder(out)
    if dry_run:
        making = print_plan(Engine(workspace, request).status(), until)
        if "depth" in making:
            check_device(request.config.runtime.device)
        if "refine" in making:
            check_engine(request.config)
        return
    with working_on(
        workspace,
        request,
        quiet=quiet,
        debug=debug,
        wait=wait,
        go_on=given_again("--no-resume"),  # which would drop what the interruption has left
        cluster=cluster,
    ) as engine:
        statuses = engine.reconstruct(until=until, resume=resume)
        try:
            if scale.wanted:
                measure_scale(
                    workspace,
                    scale,
                    executor=engine.executor,
                    progress=engine.progress,
                    cancellation=engine.cancellation,
                )
            if formats:
                write_exports(
                    workspace,
                    formats,
                    options=ExportOptions(metres=metres),
                    force=True,
                    progress=engine.progress,
                    cancellation=engine.cancellation,
                    executor=engine.executor,
                )
        finally:  # the run itself is finished, whatever became of these
            if not engine.cancellation.requested:
                report_on(engine)
    print_summary(workspace, statuses)
