"""Kernels compiled before the views begin: each once a machine, spread over all processes, instead
of by every worker that comes to need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from refdepth.pipeline.work import Cost, Desk

ROOMS = {
    "depth": ("refdepth.matching",),
    "refine": ("refdepth.matching", "refdepth.refine", "refdepth.render"),
    "fuse": ("refdepth.fusion", "refdepth.geometry"),
}
"""Where the kernels are that a stage calls."""
LABEL = "compiling loops, once a machine"
_COST = Cost(seconds=1.0, bytes=150 << 20)


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """The compiled code of a kernel."""

    cost: Cost = _COST

    def open(self, desk: Desk) -> Callable[[str], float]:
        """Needs nothing."""
        from refdepth.compilation import compile_kernel

        return compile_kernel


def kernels_to_compile(stages: Iterable[str]) -> list[str]:
    """Kernels that `stages` call and whose code is not kept yet, the one that takes longest
    first."""
    rooms = tuple({room for stage in stages for room in ROOMS.get(stage, ())})
    if not rooms:
        return []
    from refdepth.compilation import uncompiled

    return [kernel for kernel in uncompiled() if kernel.startswith(rooms)]
