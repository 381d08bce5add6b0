"""`refdepth view`: the results in a browser."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import OptionalWorkspace


def view(
    out: OptionalWorkspace = Path(),
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other machines in, without password."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Show cloud, cameras and depth in a browser (needs the extra `view`)."""
    from refdepth.cli.console import out as console
    from refdepth.pipeline.results import Results
    from refdepth.pipeline.viewer import Viewer
    from refdepth.pipeline.workspace import Workspace

    # Browsers open connections that they never use; the server would print a traceback for each.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    viewer = Viewer(Results(Workspace.find(out)), host=host, port=port)
    console.print(f"{viewer.url}  (stop with Ctrl-C)", markup=False, soft_wrap=True)
    try:
        viewer.wait()
    except KeyboardInterrupt:
        viewer.stop()
