"""What a run tells its watcher. The command line draws it; a library user may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what happens, in order. Stages do not overlap; steps do not either."""

    def stage_started(self, name: str, why: str) -> None:
        """Stage `name` begins; `why` says what makes it necessary."""

    def stage_reused(self, name: str) -> None:
        """Stage `name` is valid as it lies there."""

    def stage_finished(self, name: str, seconds: float, headline: str) -> None:
        """Stage `name` is whole; `headline` sums up its result."""

    def step(self, label: str, done: float, total: float | None) -> None:
        """Part `label` of the current stage stands at `done` of `total` (None: unknown)."""

    def note(self, message: str) -> None:
        """Something the user should read now."""


class Silent:
    """Reports nothing."""

    def stage_started(self, name: str, why: str) -> None:
        """Ignores it."""

    def stage_reused(self, name: str) -> None:
        """Ignores it."""

    def stage_finished(self, name: str, seconds: float, headline: str) -> None:
        """Ignores it."""

    def step(self, label: str, done: float, total: float | None) -> None:
        """Ignores it."""

    def note(self, message: str) -> None:
        """Ignores it."""
