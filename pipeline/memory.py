"""How much memory a stage took, how much it may take, and whether it ran out."""

from __future__ import annotations

import errno
import mmap
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from refdepth.errors import ResourceError

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESERVE = 0.25
"""Share of the free memory that is left to others."""
_MOST_KEPT = 1 << 30
"""Bytes of photos or depth maps beyond which keeping more saves no time."""
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "can't start new thread",
    "failed to map segment",
)
"""How torch, CUDA, C++ libraries, threads and the loader of libraries say it in an error."""

_UNEXPLAINED = ("without exception set", "without setting an exception")
"""How Python says that native code failed and left no error."""
_PROBE_BYTES = 16 << 20
"""What a process is left that cannot go on: refused allocations are of at most a megabyte where
native code fails without a word (an import in an address space filled up: 0.12 MB left at most)."""


class PeakMemory:
    """Largest resident memory from now on, of this process or of a child, where the system can
    start anew; else of their whole lives."""

    def __init__(self) -> None:
        self._children_before = _lifetime_peak(resource.RUSAGE_CHILDREN)
        try:
            _CLEAR.write_text("5")
        except OSError:
            return

    def megabytes(self) -> float:
        """MiB. A child counts that has ended and took more than any before."""
        children = _lifetime_peak(resource.RUSAGE_CHILDREN)
        return max(_own_peak(), children if children > self._children_before else 0.0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory was refused.

    Ask in the process that it was raised in, before its traceback goes: native code that is refused
    memory may fail without saying why (Python's own importer does), and then what counts is whether
    memory is refused still, while all is held that was held.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error).lower()
    if isinstance(error, SystemError):
        unexplained = any(phrase in words for phrase in _UNEXPLAINED)
        return isinstance(error.__cause__, MemoryError) or (unexplained and _memory_is_refused())
    return isinstance(error, MemoryError) or any(phrase in words for phrase in _OUT_OF_MEMORY)


def _memory_is_refused() -> bool:
    """Whether this process may not have a few megabytes more: limits of its address space and its
    data, and a system that promises no more than it has."""
    try:
        mmap.mmap(-1, _PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return True
    return False


def memory_error(subject: str) -> ResourceError:
    """What to say when `subject` was refused memory."""
    return ResourceError(
        "ran out of memory.",
        subject=subject,
        action="Close other programs, or lower --max-memory or prepare.max_size; finished work is"
        " kept.",
    )


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """What may be held besides the work on one view, in bytes. No result depends on it."""

    cache: int
    """Photos and depth maps kept between views."""
    features: int
    """All threads that find or match features."""

    @classmethod
    def of(cls, max_memory_gb: float | None) -> MemoryBudget:
        """From what a run may take (None: what is free now, less a reserve)."""
        limit = cls.limit(max_memory_gb)
        return cls(
            cache=min(int(limit / 4), _MOST_KEPT),
            features=int(limit / 2),
        )

    @staticmethod
    def limit(max_memory_gb: float | None) -> float:
        """Bytes that a run may take; None: what is free now, less a reserve."""
        if max_memory_gb is not None:
            return max_memory_gb * 2**30
        return float(psutil.virtual_memory().available) * (1 - _RESERVE)


def _own_peak() -> float:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return _lifetime_peak(resource.RUSAGE_SELF)


def _lifetime_peak(whose: int) -> float:
    peak = resource.getrusage(whose).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
