"""Steps of a long minimisation: counted, reported, and saved so that it can go on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, SupportsFloat

import numpy as np

from refdepth.arrays import fetch_numbers, is_tensor

State = dict[str, np.ndarray]

_RECORDED_LOSSES = 100
"""Largest number of losses that a level's summary lists."""


class VoidSteps(Exception):  # noqa: N818  (an event)
    """What was fetched says that the steps so far came to nothing."""


class Checkpoint(Protocol):
    """Where the state of an interrupted minimisation waits."""

    def load(self) -> State | None:
        """The last saved state, if there is one."""
        ...

    def save(self, state: State) -> None:
        """Keeps `state`, replacing the last one as a whole."""
        ...


class Steps:
    """A schedule of `counts` steps, one number for each level of the pyramid.

    After each step call `finish`; it reports, and every `save_every` steps saves what the solver
    gives. `resume` hands that back and remembers how far it was. A number that says by not being 0
    that the steps are `void` may live on a device: `VoidSteps` is raised where others are fetched.
    """

    def __init__(
        self,
        counts: list[int],
        *,
        save_every: int,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[int, int], None] | None = None,
        void: SupportsFloat = 0.0,
    ) -> None:
        self.counts = counts
        self.total = sum(counts)
        self.done = 0
        self._losses: list[SupportsFloat] = []
        self._save_every = save_every
        self._checkpoint = checkpoint
        self._progress = progress
        self._void = void

    def resume(self) -> State | None:
        """The saved state to go on from, or None for a fresh start."""
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return None
        self._losses = state["losses"].tolist()
        self.done = len(self._losses)
        return state

    def remaining(self, level: int) -> range:
        """Numbers of the steps still to do on `level`, counted over all levels from 0."""
        first = sum(self.counts[:level])
        return range(max(first, self.done), first + self.counts[level])

    def finish(self, loss: SupportsFloat, state: Callable[[], State]) -> None:
        """Counts one step whose loss, before it, was `loss`. One that lives on a device is fetched
        when it is needed: steps need not wait for it."""
        self._losses.append(loss)
        self.done += 1
        if self._checkpoint and self.done % self._save_every == 0 and self.done < self.total:
            self.fetch()
            self._checkpoint.save({**state(), "losses": np.array(self._losses)})
        if self._progress:
            self._progress(self.done, self.total)

    def fetch(self, *others: SupportsFloat) -> list[float]:
        """`others`, fetched together with the losses: one wait for a device where they live."""
        numbers: list[SupportsFloat] = [*self._losses, *others]
        void = self._void if any(map(is_tensor, numbers)) else 0.0  # else it was asked before
        *fetched, void = fetch_numbers([*numbers, void])
        if void:
            raise VoidSteps
        self._losses = [*fetched[: self.done]]
        return fetched[self.done :]

    def summary(self, scales: list[int]) -> list[dict[str, Any]]:
        """For each level its scale, steps, the loss before its first and last step, and some of
        the losses in between."""
        self.fetch()
        levels = []
        first = 0
        all_losses = [float(loss) for loss in self._losses]
        for scale, count in zip(scales, self.counts, strict=True):
            losses = all_losses[first : first + count]
            first += count
            if losses:
                levels.append(
                    {
                        "scale": scale,
                        "steps": count,
                        "loss_first": losses[0],
                        "loss_last": losses[-1],
                        "losses": losses[:: -(-count // _RECORDED_LOSSES)],
                    }
                )
        return levels


def split_evenly(total: int, parts: int) -> list[int]:
    """`total` steps over `parts` levels, the coarser ones first to get one more."""
    return [total // parts + (index < total % parts) for index in range(parts)]
