"""A request to stop, passed down to whatever takes long."""

from __future__ import annotations

import threading

from refdepth.errors import Interrupted


class Cancellation:
    """Set once, from any thread; looked at often."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Asks the run to stop at the next safe point."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """Raises `Interrupted` when a stop was asked for."""
        if self._event.is_set():
            raise Interrupted("stopped; what is finished is saved.")
