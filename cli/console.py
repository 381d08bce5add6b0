"""What the user sees: progress, summaries, errors."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class RichProgress:
    """A bar for the current step, a line for every stage that is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<8}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._label = ""
        self._stage = ""

    def __enter__(self) -> RichProgress:
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def stage_started(self, name: str, why: str) -> None:
        """Shows an empty bar."""
        self._stage = name
        self._new_task(escape(why), None)

    def stage_reused(self, name: str) -> None:
        """Prints a line."""
        self._console.print(f"[green]✓[/] {name:<8} [dim]unchanged, reused[/]")

    def stage_finished(self, name: str, seconds: float, headline: str) -> None:
        """Replaces the bar by a line."""
        self._drop_task()
        took = format_seconds(seconds)
        self._console.print(f"[green]✓[/] {name:<8} {escape(headline)} [dim]{took}[/]")

    def step(self, label: str, done: float, total: float | None) -> None:
        """Moves the bar."""
        if self._task is None or label != self._label:
            self._new_task(label, total)
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def note(self, message: str) -> None:
        """Prints a line."""
        self._console.print(f"[yellow]![/] {escape(message)}")

    def _new_task(self, label: str, total: float | None) -> None:
        self._drop_task()
        self._label = label
        self._task = self._progress.add_task(label, total=total, stage=self._stage)

    def _drop_task(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None


class PlainProgress:
    """Plain lines for logs and pipes: one a stage, one every few seconds in between."""

    def __init__(self, *, seconds_between: float = 10.0) -> None:
        self._seconds_between = seconds_between
        self._stage = ""
        self._last = 0.0

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def stage_started(self, name: str, why: str) -> None:
        """Prints a line."""
        self._stage = name
        self._last = time.monotonic()
        self._say(f"{name}: started ({why})")

    def stage_reused(self, name: str) -> None:
        """Prints a line."""
        self._say(f"{name}: unchanged, reused")

    def stage_finished(self, name: str, seconds: float, headline: str) -> None:
        """Prints a line."""
        self._say(f"{name}: {headline} ({format_seconds(seconds)})")

    def step(self, label: str, done: float, total: float | None) -> None:
        """Prints a line when the last one is some time ago."""
        if time.monotonic() - self._last >= self._seconds_between:
            self._last = time.monotonic()
            self._say(f"{self._stage}: {label} {done:.0f}" + (f" of {total:.0f}" if total else ""))

    def note(self, message: str) -> None:
        """Prints a line."""
        self._say(f"note: {message}")

    def _say(self, text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)


class QuietProgress(PlainProgress):
    """Notes only."""

    def stage_started(self, name: str, why: str) -> None:
        """Says nothing."""

    def stage_reused(self, name: str) -> None:
        """Says nothing."""

    def stage_finished(self, name: str, seconds: float, headline: str) -> None:
        """Says nothing."""

    def step(self, label: str, done: float, total: float | None) -> None:
        """Says nothing."""


def make_progress(*, quiet: bool) -> RichProgress | PlainProgress:
    """The progress display that fits the terminal."""
    if quiet:
        return QuietProgress()
    return RichProgress(out) if sys.stdout.isatty() else PlainProgress()


def format_seconds(seconds: float) -> str:
    """Like `4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(count: float) -> str:
    """Like `812 kB`, `3.1 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
