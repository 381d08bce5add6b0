"""Where a view is computed, and what is done when a device gives up in the middle of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from refdepth.device_memory import free_cached, is_lost, is_out_of_memory, smaller_pieces
from refdepth.devices import DeviceName
from refdepth.pipeline.config import RunConfig
from refdepth.pipeline.devices import check_device, gpus
from refdepth.render.selection import RendererName

if TYPE_CHECKING:
    import torch

    from refdepth.render import Renderer

Result = TypeVar("Result", covariant=True)
logger = logging.getLogger(__name__)


GPU_SHARE = 0.5
"""Of a GPU, for a view: while one is computed the photos of the next are read, and results written.
"""


class Task(Protocol[Result]):
    """What is computed for a view, wherever it is asked for."""

    def __call__(self, *, renderer: Renderer | None, device: torch.device | None) -> Result:
        """Computes it."""
        ...


class Engine:
    """What a process computes with. A device that runs out of memory gets the view again in smaller
    pieces, then the CPU does it; one that fails is not asked again."""

    def __init__(self, config: RunConfig, *, renders: bool = False) -> None:
        """`renders`: whether tasks take a run's gradient steps; for others on a CPU torch is not
        loaded. Raises `ConfigurationError` or `UnavailableError` where what is asked for cannot be.
        """
        self._renderer = chosen_renderer(config) if renders or _has_choice(config) else None
        self._lost = ""
        self._gradient_steps = renders and bool(config.refine.gradient_steps)

    def run(self, name: str, work: Task[Result]) -> tuple[Result, dict[str, Any]]:
        """The result for view `name`, and where it was made."""
        from refdepth.render import computing_device

        device = computing_device(self._renderer)
        if device is None:
            return self._on_cpu(work, self._lost)
        pieces: list[Callable[[], AbstractContextManager[None]]] = [nullcontext, smaller_pieces]
        for number, limits in enumerate(pieces):
            try:
                with limits():
                    return work(renderer=self._renderer, device=device), _made_on(self._renderer)
            except Exception as error:
                reason = self._reason(error, device)
            if self._renderer is None:  # lost, and whatever is asked of it now fails too
                break
            free_cached()
            if number < len(pieces) - 1:
                logger.warning("%s: %s; again in smaller pieces", name, reason)
        logger.warning("%s: %s; computed on the CPU", name, reason)
        return self._on_cpu(work, f"{device.type}: {reason}")

    def _reason(self, error: Exception, device: torch.device) -> str:
        """Why a device did not do a view. Raises `error` where that is no matter of the device."""
        if is_out_of_memory(error):
            return "out of memory (refine.working_pixels sets how much a view takes)"
        if not is_lost(error):
            raise error
        reason = str(error).strip().splitlines()[0]
        self._renderer, self._lost = None, f"{device.type}: {reason}"
        return reason

    def _on_cpu(self, work: Task[Result], instead_of: str) -> tuple[Result, dict[str, Any]]:
        """`instead_of`: the device that did not do it, and why; empty where none was asked."""
        from refdepth.render import select_renderer

        renderer = select_renderer("cpu") if self._gradient_steps else None
        made_on = _made_on(renderer)
        if instead_of:
            made_on["instead_of"] = instead_of
        return work(renderer=renderer, device=None), made_on


def chosen_renderer(config: RunConfig) -> Renderer | None:
    """The renderer of a run, which says where all of a view is computed; None where there is no
    choice but the CPU and no gradient steps need one: then torch is not loaded. Raises what
    `select_renderer` does."""
    runtime = config.runtime
    if not (config.refine.gradient_steps or _has_choice(config)):
        return None
    from refdepth.render import select_renderer

    return select_renderer(
        runtime.renderer, runtime.device, gradients=config.refine.needs_gradients
    )


def _has_choice(config: RunConfig) -> bool:
    """Whether anything but the CPU's loops and renderer may be what a run gets."""
    runtime = config.runtime
    by_name = runtime.renderer not in (RendererName.AUTO, RendererName.CPU)
    return by_name or runtime.device in (DeviceName.CUDA, DeviceName.MPS) or bool(gpus())


def check_engine(config: RunConfig) -> None:
    """Raises `ConfigurationError` or `UnavailableError` for a device or renderer that cannot be
    had."""
    check_device(config.runtime.device)
    gpu_share(config)


def gpu_share(config: RunConfig) -> float:
    """How much of a GPU a view takes; 0 on a CPU. A renderer that cannot be had is found out here,
    before hours of work, not after; where there is no choice torch is not loaded for it."""
    renderer = chosen_renderer(config) if _has_choice(config) else None
    return 0.0 if renderer is None or renderer.device.type == "cpu" else GPU_SHARE


def _made_on(renderer: Renderer | None) -> dict[str, Any]:
    if renderer is None:
        return {"device": "cpu", "renderer": None}
    return {"device": renderer.device.type, "renderer": renderer.name}
