"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

SCALE_PANEL = "Metric scale"

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
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Processes that work on photos and views side by side. \\[default: auto, as many as"
        " cores and memory allow]",
        show_default=False,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|local",
        help="Work on a Ray cluster: HOST:PORT of its head, auto (the one this machine is part of)"
        " or local (started here, for this command); --workers then limits the tasks at a time.",
        show_default=False,
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Memory to stay within where work can be split, all processes together. \\[default:"
        " what the run was given, else three quarters of what is free]",
        min=0,
        show_default=False,
    ),
]
Distances = Annotated[
    list[str] | None,
    typer.Option(
        "--distance",
        metavar='"PHOTO:X,Y PHOTO:X,Y LENGTH"',
        help="Two picked pixels and how far apart they are, in m, cm, mm, ft or in:"
        ' "A.jpg:812,440 B.jpg:90,1020 1.25m"; without the second PHOTO both are in one; may be'
        " repeated.",
        show_default=False,
        rich_help_panel=SCALE_PANEL,
    ),
]
TagSize = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTH",
        help="Side of the black square of printed tags in the photos, for example 16cm (extra"
        " tags).",
        show_default=False,
        rich_help_panel=SCALE_PANEL,
    ),
]
TagFamily = Annotated[
    str,
    typer.Option(
        metavar="FAMILY",
        help="Family of the tags as OpenCV calls it: apriltag_36h11, 4x4_50, aruco_original ...",
        rich_help_panel=SCALE_PANEL,
    ),
]
Gps = Annotated[
    bool | None,
    typer.Option(
        "--gps/--no-gps",
        help="Insist on the photos' GPS positions, or leave them out. \\[default: used where they"
        " say something]",
        show_default=False,
        rich_help_panel=SCALE_PANEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def with_debug(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with --debug, which every command has. What it does about tracebacks is done around
    the commands; those that keep a log take it as a parameter themselves."""
    signature = inspect.signature(command, eval_str=True)
    if "debug" in signature.parameters:
        return command

    @functools.wraps(command)
    def run(*, debug: bool, **options: Any) -> None:
        command(**options)

    debug = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug
    )
    parameters = [*signature.parameters.values(), debug]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**inspect.get_annotations(command, eval_str=True), "debug": Debug}
    return run


def given_again(*left_out: str) -> str:
    """The command as it was typed, for whoever wants to go on after an interruption; flags
    `left_out` do not count."""
    return shlex.join(["refdepth", *(text for text in sys.argv[1:] if text not in left_out)])


def parse_workers(text: str | None) -> int | str | None:
    """What --workers says. Raises `ConfigurationError` for what is no number of processes."""
    from refdepth.errors import ConfigurationError

    if text is None or text == "auto":
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ConfigurationError(
        "is not a number of processes.",
        subject=f"--workers {text}",
        action="Use 1 or more, or auto.",
    )


def renderer_option(panel: str | None = None) -> Any:
    """`--renderer`, in a panel of the help."""
    return typer.Option(
        metavar="auto|cpu|nvdiffrast|torch",
        help="Renderer of the refinement, which says where all of it is computed; auto on a GPU:"
        " nvdiffrast where it works, else torch (for `paper`: cpu). \\[default: auto]",
        show_default=False,
        rich_help_panel=panel,
    )


def device_option(panel: str | None = None) -> Any:
    """`--device`, in a panel of the help."""
    return typer.Option(
        metavar="auto|cpu|cuda|mps",
        help="Where networks and renderer run. A GPU and the CPU agree closely, not to the bit;"
        " each view's record says which it was. \\[default: auto]",
        show_default=False,
        rich_help_panel=panel,
    )
