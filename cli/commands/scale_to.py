"""`refdepth scale-to`: how many metres a unit is, and where up is."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from refdepth.cli.options import (
    Debug,
    Distances,
    Gps,
    Json,
    OptionalWorkspace,
    Quiet,
    TagFamily,
    TagSize,
    Wait,
    Workers,
    parse_workers,
)


def scale_to(
    out: OptionalWorkspace = Path(),
    distance: Distances = None,
    tag_size: TagSize = None,
    tag_family: TagFamily = "apriltag_36h11",
    gps: Gps = None,
    as_json: Json = False,
    workers: Workers = None,
    wait: Wait = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find out how many metres a unit of the reconstruction is, and where up is.

    From known distances, printed tags, the photos' GPS positions and metric depth; distances and
    tags count before GPS, and GPS before depth. Nothing that is there is changed: `refdepth export
    --metres` writes in metres.
    """
    from refdepth.cli.session import report_on, working_on
    from refdepth.cli.summary import print_scale
    from refdepth.io.json_text import to_json
    from refdepth.pipeline.measure_scale import ScaleOptions, measure_scale
    from refdepth.pipeline.workspace import Workspace

    options = ScaleOptions(
        distances=tuple(distance or ()), tag_size=tag_size, tag_family=tag_family, gps=gps
    )
    workspace = Workspace.find(out)
    with working_on(
        workspace,
        None,
        quiet=quiet or as_json,
        debug=debug,
        wait=wait,
        go_on=shlex.join(["refdepth", "scale-to", str(workspace.root), *options.arguments]),
        workers=parse_workers(workers),
    ) as engine:
        found = measure_scale(
            workspace,
            options,
            executor=engine.executor,
            progress=engine.progress,
            cancellation=engine.cancellation,
        )
        report_on(engine)
    if as_json:
        typer.echo(to_json(found))
    else:
        print_scale(workspace, detailed=True)
