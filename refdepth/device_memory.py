"""Memory of a device: how much operations take at a time, and what is done when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PIECES: ContextVar[int] = ContextVar("pieces", default=1)
_LOST = ("CUDA error", "HIP error", "CUDNN_STATUS", "device-side assert", "unspecified launch")


def in_smaller_pieces(chunk_bytes: int) -> int:
    """How many bytes an operation that can be divided takes for its intermediate results, where it
    would take `chunk_bytes`."""
    return chunk_bytes // _PIECES.get()


@contextmanager
def smaller_pieces(times: int = 2) -> Iterator[None]:
    """Within it operations are divided into so many `times` as many pieces."""
    token = _PIECES.set(_PIECES.get() * times)
    try:
        yield
    finally:
        _PIECES.reset(token)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has run out of memory. Not every backend of torch has a type for it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def is_lost(error: BaseException) -> bool:
    """Whether a device cannot go on: it has failed, or lacks an operation."""
    if isinstance(error, NotImplementedError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _LOST)


def free_cached() -> None:
    """Gives back what torch holds of devices' memory without using it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
