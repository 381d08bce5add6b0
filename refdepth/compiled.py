"""Decorators that compile loops with numba, and keep the compiled code for later processes.

from refdepth.compiled import kernel, parallel_kernel

@kernel                              # compiled without Python's lock
@kernel(fastmath={"contract"})       # with more of numba's options
@parallel_kernel                     # prange runs on all threads

A kernel's compiled code holds that of the kernels it calls, and the constants of both, but numba
renews it (`cache=True`) only when the kernel's own file changes. Here it is renewed when any file
with kernels changes. Where it lies is numba's choice: `NUMBA_CACHE_DIR`, `__pycache__` beside the
file, or a folder of the user's where that cannot be written.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`function` compiled by numba when it is first called, with numba's further `options`.

    Division by zero gives infinity or NaN, as in numpy. What a kernel takes from other files, be it
    kernels or constants, has to come from files with kernels: only those renew compiled code.
    """
    if function is None:
        return functools.partial(kernel, **options)
    compiled = njit(nogil=True, error_model="numpy", **options)(function)
    try:
        compiled._cache = KernelCache(function)
    except RuntimeError:
        _warn_that_nothing_is_kept()
    return compiled


def parallel_kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`kernel` whose loops over `prange` are shared out over numba's threads."""
    return kernel(function, parallel=True, **options)


class KernelCache(FunctionCache):
    """numba's cache of one function's compiled code, valid as long as no file with kernels
    changes. Raises `RuntimeError` where no folder can be written."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self.cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=(self._impl.locator.get_source_stamp(), kernel_sources()),
        )


@functools.cache
def kernel_sources() -> str:
    """Hash of all files of this package that use the decorators, and of this one."""
    this = Path(__file__)
    digest = hashlib.sha256()
    for path in sorted(this.parent.rglob("*.py")):
        source = path.read_bytes()
        if __name__.encode() in source or path == this:
            digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()


@functools.cache
def _warn_that_nothing_is_kept() -> None:
    logger.warning(
        "no folder can be written to keep compiled code in, so every start compiles again. "
        "Set NUMBA_CACHE_DIR to a folder that can be."
    )
