"""Decorators that compile loops with numba, and keep the compiled code for later processes.

from refdepth.compiled import kernel, parallel_kernel

@kernel                              # compiled without Python's lock
@kernel(fastmath={"contract"})       # with more of numba's options
@parallel_kernel                     # prange runs on all threads

A kernel's compiled code holds that of the kernels it calls, and the constants of both, but numba
renews it (`cache=True`) only when the kernel's own file changes. Here it is renewed when any file
with kernels changes. Where it lies is said in `refdepth/kernel_cache.py`, what it runs on in
`refdepth/threads.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import njit

from refdepth.kernel_cache import KernelCache, warn_that_nothing_is_kept
from refdepth.threads import choose_threading_layer

choose_threading_layer()


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
        warn_that_nothing_is_kept()
    return compiled


def parallel_kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`kernel` whose loops over `prange` are shared out over numba's threads."""
    return kernel(function, parallel=True, **options)
