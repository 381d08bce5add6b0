"""Prints evaluation results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from refdepth.cli.console import out
from refdepth.evaluation.tables import Table as PlainTable
from refdepth.evaluation.tables import cloud_table, depth_tables, reliability_table, view_table

_ESSENTIAL = ("AbsRel", "median", "RMSE", "within 3 %", "< 1.25", "< 5 cm", "coverage")
"""Columns that stay where the terminal is too narrow for all of them; JSON always has all."""
_DETAIL = ("Depth, pixels known in every stage", "Depth, truth up to")
"""Beginnings of the titles of tables that are printed only when asked for."""


def print_evaluation(
    result: Mapping[str, Any], *, by_view: bool = False, detailed: bool = False
) -> None:
    """The tables of a workspace's evaluation; `detailed` adds common pixels and depth caps."""
    if "depth" in result:
        for table in depth_tables(result["depth"]):
            if detailed or not table.title.startswith(_DETAIL):
                _print(table)
        if by_view:
            _print(view_table(result["depth"]))
    if "points" in result:
        count = result["points"]["count"]
        _print(reliability_table(result["points"], f"Confidence at {count:,} left-out SfM points"))
    if "cloud" in result:
        _print(cloud_table(result["cloud"]))
    if "cameras" in result:
        cameras = result["cameras"]
        out.print(
            f"\n{cameras['placed']} of {cameras['of']} cameras placed; centres off by"
            f" {cameras['median']:.4g} (median), {cameras['max']:.4g} (largest),"
            " in the truth's unit, after a Sim3.",
            soft_wrap=True,
        )


def _print(plain: PlainTable) -> None:
    widths = [
        max(len(line[number]) for line in (plain.columns, *plain.rows))
        for number in range(len(plain.columns))
    ]
    chosen = list(range(len(plain.columns)))
    if sum(widths) + 2 * len(widths) > out.width:
        essential = [n for n in chosen if n == 0 or plain.columns[n] in _ESSENTIAL]
        chosen = essential if len(essential) > 1 else chosen
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number in chosen:
        table.add_column(plain.columns[number], justify="right" if number else "left")
    for row in plain.rows:
        table.add_row(*(escape(row[number]) for number in chosen))
    out.print(f"\n[bold]{escape(plain.title)}[/]")
    out.print(table)
    for note in plain.notes:
        out.print(f"[dim]{escape(note)}[/]")
