"""`refdepth stage`: one stage again, or on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import (
    Cluster,
    Debug,
    MaxMemory,
    Quiet,
    Wait,
    Workers,
    Workspace,
    given_again,
    parse_workers,
)


def stage(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="prepare, sfm, depth, scale, refine or fuse.")
    ],
    workspace: Workspace = Path(),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue: keep what is finished and valid.")
    ] = False,
    views: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="refine only: the views that match; may be repeated.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    cluster: Cluster = None,
    max_memory: MaxMemory = None,
    wait: Wait = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run one stage again from its inputs, or continue it with --resume."""
    from refdepth.cli.session import report_on, working_on
    from refdepth.cli.summary import print_summary
    from refdepth.errors import ConfigurationError
    from refdepth.pipeline.workspace import Workspace as Folder

    if views and name != "refine":
        raise ConfigurationError(
            "is for the refine stage only.", subject="--views", action=f"Leave it out for {name}."
        )
    folder = Folder.find(workspace)
    go_on = given_again() if resume else f"{given_again()} --resume"
    with working_on(
        folder,
        None,
        quiet=quiet,
        debug=debug,
        wait=wait,
        go_on=go_on,
        workers=parse_workers(workers),
        cluster=cluster,
        max_memory_gb=max_memory,
    ) as engine:
        status = engine.run_stage(name, resume=resume or bool(views), views=tuple(views or ()))
        report_on(engine)
    print_summary(folder, [status])
