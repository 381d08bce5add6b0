"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        metavar="OUT",
        help="Output folder of the reconstruction; default: this folder or the nearest parent"
        " that is one.",
    ),
]
OptionalWorkspace = Annotated[
    Path,
    typer.Argument(
        metavar="[OUT]",
        show_default=False,
        help="Output folder; default: this folder or the nearest parent that is one.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and notes only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks; log in more detail.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait while another process uses the output folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
