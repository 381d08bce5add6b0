"""`refdepth config`: every setting, what it means, and a file to start from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from refdepth.pipeline.config_reference import FieldReference


def config(
    group: Annotated[
        str, typer.Argument(metavar="[GROUP]", help="A setting or group, for example refine.match.")
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="List every setting with type, default and meaning.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a configuration file.")
    ] = False,
    quality: Annotated[
        str | None,
        typer.Option(
            help="Show the values of a preset: fast, balanced, high, paper.", show_default=False
        ),
    ] = None,
) -> None:
    """Print a configuration file with all defaults, explain the settings, or give their schema.

    Start your own with: refdepth config > scene.toml
    """
    from refdepth.cli.commands.reconstruct import quality_of
    from refdepth.errors import ConfigurationError
    from refdepth.pipeline.config import build_config
    from refdepth.pipeline.config_reference import (
        describe_fields,
        json_schema,
        select_fields,
        toml_document,
    )

    if explain and schema:
        raise ConfigurationError(
            "exclude each other.", subject="--explain and --schema", action="Give one of them."
        )
    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    settings = build_config(quality=quality_of(quality))
    if explain or group:
        _print_fields(select_fields(describe_fields(settings), group))
    else:
        typer.echo(toml_document(settings), nl=False)


def _print_fields(fields: Sequence[FieldReference]) -> None:
    from rich.markup import escape

    from refdepth.cli.console import out

    group = None
    for field in fields:
        if field.path.rpartition(".")[0] != group:
            group = field.path.rpartition(".")[0]
            out.print(f"\n[bold]{escape(group)}[/]")
        about = ", ".join(part for part in (field.kind, field.unit, field.limits) if part)
        name = field.path.rpartition(".")[2]
        default = f" = {escape(field.default)}" if field.default else ""
        out.print(f"  [cyan]{escape(name)}[/]{default}  [dim]{escape(about)}[/]", soft_wrap=True)
        note = "" if field.remakes else " Does not change results."
        out.print(f"    {escape(field.help)}{note}", soft_wrap=True)
