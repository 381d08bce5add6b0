"""Which threading layer numba's parallel loops run on, and on how many threads.

numba takes TBB wherever a libtbb happens to lie on the system. On a busy machine that is a
catastrophe: threads that share a core wait for each other a scheduler slice at every parallel loop,
seconds become minutes. So the layer is chosen here, before any kernel runs: OpenMP, else numba's
own work queue, else TBB. What the user has set stays.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numba
from numba.core import config

from refdepth.errors import UnavailableError

LAYERS = {"omp": "OpenMP", "workqueue": "numba's work queue", "tbb": "TBB"}
"""numba's name of each layer to its own, the preferred one first."""
USERS_OWN = ("NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY")
_NUMBAS_ORDER = ["tbb", "omp", "workqueue"]


@dataclass(frozen=True, kw_only=True)
class Threading:
    """What parallel kernels run on."""

    layer: str
    """A key of `LAYERS`."""
    why: str
    """Who chose it, in a few words."""
    threads: int
    """How many of its threads the calling thread uses."""

    def __str__(self) -> str:
        count = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{LAYERS.get(self.layer, self.layer)} ({self.why}), {count}"


def choose_threading_layer() -> None:
    """Puts OpenMP first and TBB last, unless somebody else has chosen. Has no effect on a numba
    whose threads run already. Starts nothing."""
    if _chosen_by_others() is None:
        config.THREADING_LAYER_PRIORITY = list(LAYERS)


def threading() -> Threading:
    """The layer in force, and why. Starts numba's threads if they have not been yet.

    Raises `UnavailableError` when the user's choice is not there.
    """
    others = _chosen_by_others()
    try:
        threads = numba.get_num_threads()
        layer = numba.threading_layer()
    except ValueError as error:
        raise UnavailableError(
            str(error).splitlines()[0],
            subject=others or "numba",
            action="Unset it." if others else "Reinstall numba.",
        ) from error
    if _running_before is not None:
        why = "started before refdepth was imported"
    elif others is not None:
        why = f"set by {others}"
    elif layer == next(iter(LAYERS)):
        why = "chosen"
    else:
        why = f"no {' or '.join(_missing(layer))} here"
    return Threading(layer=layer, why=why, threads=threads)


def use_threads(count: int) -> int:
    """Has the work of the calling thread run on `count` threads: numba's kernels, and torch's
    operations if torch is imported. Returns how many it is: never more than numba was started with
    (`NUMBA_NUM_THREADS`, else the cores this process may run on).

    Raises `ValueError` for a count below 1.
    """
    if count < 1:
        raise ValueError(f"at least one thread is needed, not {count}")
    count = min(count, config.NUMBA_NUM_THREADS)
    numba.set_num_threads(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    return count


def _chosen_by_others() -> str | None:
    """What has set the layer: a variable of the environment, or numba's configuration (a
    `.numba_config.yaml`, the program that imports refdepth). None: nobody."""
    for name in USERS_OWN:
        if name in os.environ:
            return name
    if config.THREADING_LAYER != "default":
        return "numba.config.THREADING_LAYER"
    if config.THREADING_LAYER_PRIORITY not in (_NUMBAS_ORDER, list(LAYERS)):
        return "numba.config.THREADING_LAYER_PRIORITY"
    return None


def _missing(layer: str) -> list[str]:
    """The layers that are preferred to one."""
    names = list(LAYERS)
    return [LAYERS[name] for name in names[: names.index(layer)]]


def _running() -> str | None:
    try:
        return numba.threading_layer()
    except ValueError:
        return None


_running_before = _running()
