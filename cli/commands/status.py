"""`refdepth status`: what is done, stale, partial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import Json, OptionalWorkspace


def status(
    out: OptionalWorkspace = Path(),
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every artifact and compare its hash.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is done, cleaned, stale, damaged or partial, with times and sizes on disk."""
    from refdepth.cli.summary import print_status, status_rows
    from refdepth.io.json_text import to_json
    from refdepth.pipeline.engine import Engine
    from refdepth.pipeline.metric import read_scale
    from refdepth.pipeline.results import Results
    from refdepth.pipeline.workspace import Workspace

    workspace = Workspace.find(out)
    statuses = Engine(workspace, workspace.request()).status(thorough=verify)
    if as_json:
        scale = read_scale(Results(workspace))
        told = {
            "workspace": str(workspace.root),
            "bytes": sum(status.bytes for status in statuses),
            "stages": status_rows(statuses),
            "scale": None if scale is None else {**scale.content, "stale": scale.stale},
        }
        typer.echo(to_json(told))
    else:
        print_status(workspace, statuses)
