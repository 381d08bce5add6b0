"""`refdepth report`: the page about a run, made again."""

from __future__ import annotations

from pathlib import Path

import typer

from refdepth.cli.options import OptionalWorkspace


def report(out: OptionalWorkspace = Path()) -> None:
    """Write OUT/report.html again: what was done, view by view, with warnings and pictures."""
    from refdepth.pipeline.report import write_report
    from refdepth.pipeline.workspace import Workspace

    typer.echo(write_report(Workspace.find(out)))
