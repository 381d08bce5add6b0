"""The `refdepth` command: registers the commands and turns errors into exit codes."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import traceback
from collections.abc import Callable

import typer

from refdepth.cli.exit_codes import ExitCode, exit_code
from refdepth.cli.options import with_debug
from refdepth.pipeline.environment import prepare_process

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Photos in, accurate dense depth and a fused point cloud out.",
    epilog="Start with: refdepth demo · then: refdepth reconstruct photos/ out/",
)

COMMANDS = (
    "reconstruct",
    "stage",
    "status",
    "scale-to",
    "evaluate",
    "demo",
    "export",
    "report",
    "view",
    "clean",
    "config",
    "doctor",
)
"""Modules under cli.commands, whose names have _ for -; each has a function of its own name."""


def _register() -> None:
    for name in COMMANDS:
        function = name.replace("-", "_")
        module = importlib.import_module(f"refdepth.cli.commands.{function}")
        app.command(name)(with_debug(getattr(module, function)))


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"refdepth {version('refdepth')}")
        raise typer.Exit


@app.callback()
def _root(
    _: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Photos in, accurate dense depth and a fused point cloud out."""


_register()


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits."""
    prepare_process()
    logging.getLogger().addHandler(logging.NullHandler())
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


@functools.cache
def command() -> Callable[[list[str]], object]:
    """The whole command line with all options, built once a process."""
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        command()(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _report(error, debug="--debug" in arguments)
    return ExitCode.DONE


def _report(error: Exception, *, debug: bool) -> int:
    from refdepth.pipeline.memory import is_out_of_memory, memory_error

    code = exit_code(error)
    if code is ExitCode.FAILED and is_out_of_memory(error):
        code, error = ExitCode.RESOURCE, memory_error("refdepth")
    if debug:
        traceback.print_exception(error)
    elif code is ExitCode.FAILED:
        typer.echo(
            f"refdepth: unexpected {type(error).__name__}: {error}\n"
            "This is a fault in refdepth. Run again with --debug for the details to report.",
            err=True,
        )
    else:
        typer.echo(f"refdepth: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
