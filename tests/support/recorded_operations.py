"""Operations recorded without a device that records: `torch.cuda.CUDAGraph` in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedOperations(TorchDispatchMode):
    """Keeps each operation with its arguments and results; a replay does it again on the same
    tensors and puts what it makes where the first results are."""

    captures = 0
    """How many there were, of all."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def capture(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """See `replay.Recording.capture`."""
        RecordedOperations.captures += 1
        with self:
            return work()

    def replay(self) -> None:
        """See `replay.Recording.replay`."""
        for operation, args, kwargs, made in self._steps:
            again = operation(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(made), strict=True):
                if isinstance(new, torch.Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if str(operation).startswith(("aten._local_scalar_dense", "aten.nonzero")):
            raise RuntimeError(f"{operation} cannot be recorded")
        made = operation(*args, **(kwargs or {}))
        self._steps.append((operation, args, kwargs or {}, made))
        return made
