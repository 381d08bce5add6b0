"""`refdepth report`: the page about a run, made again."""

from __future__ import annotations

from pathlib import Path

import typer

from refdepth.cli.options import OptionalWorkspace, Workers, parse_workers


def report(out: OptionalWorkspace = Path(), workers: Workers = None) -> None:
    """Write OUT/report.html again: what was done, view by view, with warnings and pictures."""
    from contextlib import closing

    from refdepth.errors import InputError
    from refdepth.pipeline.choose_executor import choose_executor
    from refdepth.pipeline.executors import Executor, SerialExecutor
    from refdepth.pipeline.report import write_report
    from refdepth.pipeline.workspace import Workspace

    workspace = Workspace.find(out)
    executor: Executor
    try:
        request = workspace.request().for_command(workers=parse_workers(workers))
        executor = choose_executor(workspace.root, request)
    except InputError:  # another version's: there is a report nevertheless
        executor = SerialExecutor()
    with closing(executor):
        typer.echo(write_report(workspace, executor))
