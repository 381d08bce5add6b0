"""`refdepth config`: the settings, what they mean, and a file to start from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from refdepth.pipeline.config_reference import FieldReference


def config(
    group: Annotated[
        str,
        typer.Argument(
            metavar="[GROUP]",
            help="A setting or group to explain in full, for example refine.match.",
        ),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="List settings with type, default and meaning.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With the settings for experts.")
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
    """Print a configuration file with its defaults, explain the settings, or give their schema.

    Shown are the settings that people touch; --all, or naming a group, shows those for experts too.

    Start your own with: refdepth config > scene.toml
    """
    from refdepth.errors import ConfigurationError
    from refdepth.pipeline.api import quality_of
    from refdepth.pipeline.config import build_config
    from refdepth.pipeline.config_reference import (
        describe_fields,
        json_schema,
        select_fields,
        toml_document,
    )
    from refdepth.settings import Quality

    if explain and schema:
        raise ConfigurationError(
            "exclude each other.", subject="--explain and --schema", action="Give one of them."
        )
    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    preset = Quality.BALANCED if quality is None else quality_of(quality)
    if not (explain or group):
        typer.echo(toml_document(preset, expert=everything), nl=False)
        return
    fields = select_fields(describe_fields(build_config(quality=preset)), group)
    shown = [field for field in fields if everything or group or not field.expert]
    _print_fields(shown)
    if left := len(fields) - len(shown):
        typer.echo(f"\n{left} more: refdepth config --explain --all, or with the name of a group.")


def _print_fields(fields: Sequence[FieldReference]) -> None:
    from rich.text import Text

    group = None
    for field in fields:
        if field.path.rpartition(".")[0] != group:
            group = field.path.rpartition(".")[0]
            _print(Text(f"\n{group}", "bold"))
        name = field.path.rpartition(".")[2]
        default = f" = {field.default}" if field.default else ""
        _print(Text.assemble((name, "cyan"), f"{default}  ", (field.about, "dim")), 2, 6)
        note = "" if field.remakes else ". Does not change results."
        _print(Text(f"{field.help.removesuffix('.') if note else field.help}{note}"), 4, 4)


def _print(text: Text, indent: int = 0, later: int = 0) -> None:
    """`text` within the terminal's width; its first line and later ones are indented."""
    from rich.text import Text

    from refdepth.cli.console import out

    for number, line in enumerate(text.wrap(out, out.width - max(indent, later))):
        line.rstrip()
        out.print(Text(" " * (later if number else indent)) + line)
