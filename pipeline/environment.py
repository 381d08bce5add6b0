"""Process settings that speed depends on. The one place that touches the environment.

OpenMP workers that spin between torch's parallel regions take the cores from numba's kernels;
letting them sleep makes an iteration of the refinement an eighth faster. The variable is read when
torch is first imported, hence this runs before anything heavy. And glibc gives the memory of freed
pictures back to the system at once, to fetch and clear it again for the next: keeping some makes an
iteration at 640x480 a sixth faster (both measured, benchmarks/RESULTS.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

SETTINGS = {
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",  # whose long sums differ with the number of threads
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""Environment variables that commands and workers set where the user has not."""
KEPT_MB = 128
"""Freed memory that stays with the process for the next picture."""
_OWN_MAPPING_MB = 64  # what is larger always comes from the system and goes back to it
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def prepare_process() -> None:
    """Applies all of it; what the user has set stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Has glibc keep up to `KEPT_MB` of freed memory. False where it is not glibc that manages
    memory, or the user has set how it should."""
    if sys.platform != "linux" or any(name in os.environ for name in _USERS_OWN):
        return False
    allocator = _allocator()
    if allocator is None:
        return False
    kept = allocator.mallopt(_M_TRIM_THRESHOLD, KEPT_MB << 20)
    mapped = allocator.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_MB << 20)
    return bool(kept and mapped)


def release_freed_memory() -> None:
    """Gives the memory that is freed back to the system, where glibc manages it: after what takes
    much once and is made of small parts, which lie all over the heap."""
    allocator = _allocator() if sys.platform == "linux" else None
    if allocator is not None:
        allocator.malloc_trim(0)


def _allocator() -> ctypes.CDLL | None:
    """glibc; None where it is another."""
    found = ctypes.CDLL(None)
    calls = ("mallopt", "malloc_trim", "gnu_get_libc_version")
    return found if all(hasattr(found, name) for name in calls) else None
