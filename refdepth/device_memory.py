"""Memory of a device: how much operations take at a time, and what is done when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CHUNK_BYTES: ContextVar[int] = ContextVar("chunk_bytes", default=256 << 20)
_LOST = ("CUDA error", "HIP error", "CUDNN_STATUS", "device-side assert", "unspecified launch")


def chunk_bytes() -> int:
    """What operations that can be divided take for their intermediate results."""
    return _CHUNK_BYTES.get()


@contextmanager
def smaller_chunks(divisor: int = 2) -> Iterator[None]:
    """Within it operations are divided further, into chunks of a `divisor`-th of the size."""
    token = _CHUNK_BYTES.set(max(chunk_bytes() // divisor, 1 << 20))
    try:
        yield
    finally:
        _CHUNK_BYTES.reset(token)


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
