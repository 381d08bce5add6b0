"""Tensor operations recorded once and replayed: a GPU would spend longer being told each of
thousands of small operations than doing them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

import torch

Tensor = torch.Tensor
KEPT = 4
"""Recordings that a function keeps, the latest used: each holds the memory it works in."""
logger = logging.getLogger(__name__)


class Recording(Protocol):
    """A device's way to keep operations."""

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        """Keeps the operations of `work`; what it returns is filled by each replay."""
        ...

    def replay(self) -> None:
        """Does them again, on the same memory."""
        ...


class CudaGraph:
    """The way of CUDA."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        """See `Recording.capture`."""
        # What a first call alone does must not be recorded.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        """See `Recording.replay`."""
        self._graph.replay()


class Replayed:
    """A function of tensors that reads nothing back and does the same for all of one shape.

    On CUDA it is recorded at its first call with inputs of a kind, else simply called. What cannot
    be recorded is called too.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        recording: Callable[[], Recording] = CudaGraph,
        device: str = "cuda",
    ) -> None:
        self._function = function
        self._recording = recording
        self._device = device
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._works = True

    def __call__(self, *inputs: Tensor | None, **options: Hashable) -> Tensor:
        """What the function returns for `inputs` and `options`, as a tensor of its own."""
        first = next(one for one in inputs if one is not None)
        if first.device.type != self._device or not self._works:
            return self._function(*inputs, **options)
        key = (
            first.device,
            tuple(None if one is None else (one.shape, one.dtype) for one in inputs),
            tuple(sorted(options.items())),
        )
        kept = self._kept.pop(key, None)
        if kept is None:
            while len(self._kept) >= KEPT:
                self._kept.popitem(last=False)
            try:
                kept = _Kept(self._recording(), self._function, inputs, options)
            except RuntimeError as error:
                logger.info("operations are not recorded on %s: %s", first.device, error)
                self._works = False
                return self._function(*inputs, **options)
        self._kept[key] = kept
        return kept(inputs)


class _Kept:
    """A recording with the memory that it reads and fills."""

    def __init__(
        self,
        recording: Recording,
        function: Callable[..., Tensor],
        inputs: tuple[Tensor | None, ...],
        options: dict[str, Hashable],
    ) -> None:
        self._recording = recording
        self._inputs = [None if one is None else one.clone() for one in inputs]
        self._result = recording.capture(lambda: function(*self._inputs, **options))

    def __call__(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._recording.replay()
        return self._result.clone()
