"""Prints evaluation results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.console import out
from refdepth.evaluation.tables import Table as PlainTable
from refdepth.evaluation.tables import cloud_table, depth_tables, view_table


def print_evaluation(result: Mapping[str, Any], *, by_view: bool = False) -> None:
    """All tables of a workspace's evaluation."""
    if "depth" in result:
        for table in depth_tables(result["depth"]):
            _print(table)
        if by_view:
            _print(view_table(result["depth"]))
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
    table = Table(box=None, pad_edge=False, title_justify="left", title=escape(plain.title))
    for number, column in enumerate(plain.columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in plain.rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print()
    out.print(table)
    for note in plain.notes:
        out.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
