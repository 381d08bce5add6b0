"""`refdepth clean`: the space of what a finished run can do without."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import Debug, OptionalWorkspace, Wait


def clean(
    out: OptionalWorkspace = Path(),
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Leave these: photos, matches, priors, rounds or tiles; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be dropped, and stop.")
    ] = False,
    wait: Wait = False,
    debug: Debug = False,
) -> None:
    """Drop what a finished run no longer needs, and say what that takes to make again.

    Final depth, agreed depth, confidence, cloud, cameras, undistorted photos, exports and report
    stay. What is dropped is made again when a later change needs it, and only then.
    """
    from refdepth.cli.session import working_on
    from refdepth.cli.summary import print_cleaning
    from refdepth.pipeline.cleaning import drop, find_parts, parse_keep
    from refdepth.pipeline.engine import Engine
    from refdepth.pipeline.workspace import Workspace

    asked = parse_keep(keep or ())
    workspace = Workspace.find(out)
    if dry_run:
        request = workspace.request()
        statuses = Engine(workspace, request).status()
        print_cleaning(find_parts(workspace, request.inputs, statuses, asked), statuses, dry=True)
        return
    options = [part for kind in asked for part in ("--keep", kind)]
    go_on = shlex.join(["refdepth", "clean", str(workspace.root), *options])
    with working_on(workspace, None, quiet=True, debug=debug, wait=wait, go_on=go_on) as engine:
        statuses = engine.status()
        parts = find_parts(workspace, engine.request.inputs, statuses, asked)
        drop(workspace, parts)
    print_cleaning(parts, statuses, dry=False)
