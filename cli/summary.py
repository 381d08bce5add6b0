"""What a run leaves on the screen: the plan, the closing summary, the status table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from refdepth.cli.console import format_bytes, format_seconds, out
from refdepth.pipeline.cleaning import Part
from refdepth.pipeline.stage_status import StageState, StageStatus, to_make
from refdepth.pipeline.workspace import Workspace

_MAX_LISTED = 4
_STYLE = {
    StageState.DONE: "green",
    StageState.CLEANED: "green",
    StageState.PARTIAL: "yellow",
    StageState.STALE: "yellow",
    StageState.DAMAGED: "red",
    StageState.MISSING: "dim",
}


def print_plan(statuses: Sequence[StageStatus], until: str | None) -> set[str]:
    """What a run would reuse and make; returns the stages that it would make."""
    names = [status.name for status in statuses]
    asked = statuses[: 1 + names.index(until)] if until else statuses
    making = to_make(asked)
    for status in asked:
        if status.name not in making:
            out.print(f"{status.name:<8} reuse")
        else:
            why = "made again" if status.is_valid else "run"
            out.print(f"{status.name:<8} {why}: {escape(status.why)}", soft_wrap=True)
    return making


def print_summary(workspace: Workspace, statuses: Sequence[StageStatus]) -> None:
    """What came out, how good it is, how long it took and where it lies."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(justify="right", style="dim", no_wrap=True)
    for status in statuses:
        if status.manifest is not None:
            table.add_row(
                status.name,
                escape(str(status.manifest.summary.get("headline", ""))),
                format_seconds(status.manifest.seconds),
            )
    out.print()
    out.print(table)
    print_scale(workspace)
    _print_advice(workspace)
    _print_places(workspace, {status.name for status in statuses if status.manifest})


def print_scale(workspace: Workspace, *, detailed: bool = False) -> None:
    """How long a unit is, where that was measured; `detailed`: by what, and what to know."""
    from refdepth.pipeline.metric import read_scale
    from refdepth.pipeline.results import Results

    scale = read_scale(Results(workspace))
    if scale is None:
        return
    if not scale.stale:
        out.print(escape(f"\n{scale.headline}"), soft_wrap=True)
    if not detailed:
        return
    table = Table(box=None, pad_edge=False)
    for title, justify in (("source", "left"), ("measured", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for title in ("m a unit", "error", "residual"):
        table.add_column(title, justify="right", no_wrap=True)
    for source in () if scale.stale else scale.content["sources"]:
        for row in source["measurements"]:
            table.add_row(
                source["source"],
                escape(row["what"]) + ("" if row["used"] else " [dim](left out)[/]"),
                f"{row['metres_per_unit']:.5g}",
                f"{row['relative_error']:.2%}",
                f"{row['residual']:+.2%}",
            )
    if table.row_count:
        out.print(table)
    for warning in scale.warnings:
        out.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)


def _print_advice(workspace: Workspace) -> None:
    """The report's advice, in its words."""
    from refdepth.pipeline.report.advice import advice_of
    from refdepth.pipeline.results import Results

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="yellow", no_wrap=True)
    table.add_column(overflow="fold")
    for advice in advice_of(Results(workspace)):
        text = escape(advice.what)
        if advice.names:
            text = f"{text.rstrip('.')} [dim]{escape(_listed(advice.names))}[/]."
        table.add_row("!", f"{text} {escape(advice.try_)}".rstrip())
    if table.row_count:
        out.print()
        out.print(table)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"({', '.join(names[:_MAX_LISTED])}{more})"


def _print_places(workspace: Workspace, finished: set[str]) -> None:
    places = {
        "fuse": ("cloud", "fuse/cloud.ply"),
        "refine": ("depth maps", "refine/*.npz"),
        "sfm": ("cameras", "sfm/undistorted"),
    }
    rows = [place for stage, place in places.items() if stage in finished]
    if (workspace.root / "report.html").is_file():
        rows.append(("report", "report.html"))
    rows.append(("log", workspace.log_path.name))
    out.print()
    for label, place in rows:
        path = escape(str(workspace.root / place))
        out.print(f"{label:<10} {path}", soft_wrap=True)


def print_status(workspace: Workspace, statuses: Sequence[StageStatus]) -> None:
    """How every stage stands."""
    table = Table(box=None, pad_edge=False)
    for title, justify in (("stage", "left"), ("state", "left"), ("result", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for title in ("time", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for status in statuses:
        manifest = status.manifest
        text = status.why
        if status.is_valid and manifest is not None:
            text = ", ".join(filter(None, (str(manifest.summary.get("headline", "")), status.why)))
        table.add_row(
            status.name,
            f"[{_STYLE[status.state]}]{status.state}[/]",
            escape(text),
            format_seconds(manifest.seconds) if manifest else "",
            format_bytes(status.bytes) if status.bytes else "",
        )
    seconds = sum(status.manifest.seconds for status in statuses if status.manifest)
    size = sum(status.bytes for status in statuses)
    table.add_section()
    table.add_row("total", "", "", format_seconds(seconds), format_bytes(size), style="bold")
    out.print(escape(str(workspace.root)), soft_wrap=True)
    out.print(table)
    print_scale(workspace, detailed=True)


def status_rows(statuses: Sequence[StageStatus]) -> list[dict[str, Any]]:
    """The status table as plain values."""
    return [
        {
            "stage": status.name,
            "state": status.state.value,
            "why": status.why,
            "items": status.items,
            "seconds": status.manifest.seconds if status.manifest else None,
            "bytes": status.bytes,
            "summary": status.manifest.summary if status.manifest else None,
        }
        for status in statuses
    ]


def print_cleaning(parts: Sequence[Part], statuses: Sequence[StageStatus], *, dry: bool) -> None:
    """What was dropped, or would be, and what stays."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("what it holds", overflow="fold")
    table.add_column("its stage took", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", style="yellow")
    for part in parts:
        table.add_row(
            part.spare.name,
            format_bytes(part.bytes),
            part.spare.what,
            format_seconds(part.seconds),
            f"kept: {escape(part.kept)}" if part.kept else "",
        )
    if parts:
        out.print(table)
    freed = sum(part.bytes for part in parts if not part.kept)
    left = sum(status.bytes for status in statuses) - freed
    said = "would be freed" if dry else "freed"
    first = f"{format_bytes(freed)} {said}" if freed else "Nothing to drop"
    out.print(f"{first}; {format_bytes(left)} {'would stay' if dry and freed else 'stay'}.")
