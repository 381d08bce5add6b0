"""`refdepth export`: the results in the files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import (
    Cluster,
    Debug,
    OptionalWorkspace,
    Quiet,
    Wait,
    Workers,
    given_again,
    parse_workers,
)


def export(
    out: OptionalWorkspace = Path(),
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="colmap (dense workspace), nerfstudio, depth, splat (3DGS trainers), graphdeco"
            " (3DGS with --depths), gsplat (3DGS with depth from tracks), openmvs, mesh or cloud;"
            " may be repeated.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the formats' folders go. \\[default: OUT/export]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier exports.")] = False,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out pixels and points less sure than this.")
    ] = 0.0,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Leave out depth that no other view confirms.")
    ] = False,
    depth_as: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="depth only: png16, tiff32, npz, npy, exr or pictures; may be repeated."
            " \\[default: png16 and pictures]",
            show_default=False,
        ),
    ] = None,
    ray_depth: Annotated[
        bool,
        typer.Option("--ray-depth", help="depth only: distances along the rays instead of z."),
    ] = False,
    grid: Annotated[
        str,
        typer.Option(
            metavar="GRID",
            help="depth only: pixels of the undistorted photo, or of the original with its lens"
            " distortion.",
        ),
    ] = "undistorted",
    cloud_as: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="cloud only: ply, ply-sample, las, laz, copc or e57; may be repeated."
            " \\[default: ply]",
            show_default=False,
        ),
    ] = None,
    initial_points: Annotated[
        int,
        typer.Option(
            min=100_000, max=500_000, help="splat, graphdeco and gsplat: most initial points."
        ),
    ] = 300_000,
    metres: Annotated[
        bool,
        typer.Option(
            "--metres",
            help="In metres with z up, as `refdepth scale-to` found out; clouds as LAS, LAZ and"
            " COPC in UTM coordinates where GPS says where. Not for nerfstudio and graphdeco.",
        ),
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    wait: Wait = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the results for other tools: splat trainers, COLMAP, nerfstudio, Blender, CloudCompare.

    Lengths are in SfM units unless a file says otherwise or --metres is given. Nothing is
    overwritten without --force.
    """
    from refdepth.cli.console import out as console
    from refdepth.cli.session import working_on
    from refdepth.pipeline.exports import (
        CloudFile,
        DepthFile,
        ExportOptions,
        Grid,
        parse_formats,
        parse_kinds,
    )
    from refdepth.pipeline.exports import export as write
    from refdepth.pipeline.workspace import Workspace

    formats = parse_formats(to or ())
    options = ExportOptions(
        min_confidence=min_confidence,
        consistent=consistent,
        depth_files=parse_kinds("--depth-as", depth_as, DepthFile, ExportOptions.depth_files),
        ray_depth=ray_depth,
        grid=parse_kinds("--grid", [grid], Grid, ())[0],
        cloud_files=parse_kinds("--cloud-as", cloud_as, CloudFile, ExportOptions.cloud_files),
        initial_points=initial_points,
        metres=metres,
    )
    workspace = Workspace.find(out)
    with working_on(
        workspace,
        None,
        quiet=quiet,
        debug=debug,
        wait=wait,
        go_on=given_again(),
        workers=parse_workers(workers),
        cluster=cluster,
    ) as engine:
        targets = write(
            workspace,
            formats,
            folder=None if output is None else output.resolve(),
            options=options,
            force=force,
            progress=engine.progress,
            cancellation=engine.cancellation,
            executor=engine.executor,
        )
    console.print()
    for format_, target in targets.items():
        console.print(f"{format_.value:<10} {target}", markup=False, soft_wrap=True)
