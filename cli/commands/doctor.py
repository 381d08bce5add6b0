"""`refdepth doctor`: what is here, what will be used, what is missing and how to get it."""

from __future__ import annotations

import typer

from refdepth.cli.options import Json


def doctor(as_json: Json = False) -> None:
    """Show what is installed, which renderer and device will be used, and what is missing."""
    from refdepth.cli.diagnosis import diagnose, print_diagnosis
    from refdepth.io.json_text import to_json

    diagnosis = diagnose()
    if as_json:
        typer.echo(to_json(diagnosis.to_dict()))
    else:
        print_diagnosis(diagnosis)
    if diagnosis.broken:
        raise typer.Exit(5)
