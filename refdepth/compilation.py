"""Kernels compiled ahead, each by one process, instead of by every worker that needs them.

`kernel_signatures.txt` lists what a run with default settings on a CPU calls: compile seconds, then
`module:function(argument types)`, the longest first. `make kernel-signatures` writes it.

Example::

    for kernel in uncompiled():  # or shared out over processes, in this order
        compile_kernel(kernel)
"""

from __future__ import annotations

import functools
import importlib
import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

SIGNATURES = Path(__file__).with_name("kernel_signatures.txt")
_PATIENCE_S = 120.0
"""How long to wait for another process that compiles the same kernel."""
_POLL_S = 0.05


@functools.cache
def known_kernels() -> tuple[str, ...]:
    """The kernels that can be compiled ahead, the one that takes longest first."""
    lines = SIGNATURES.read_text(encoding="utf-8").splitlines()
    return tuple(line.split(maxsplit=1)[1] for line in lines if line and line[0] != "#")


def uncompiled() -> tuple[str, ...]:
    """Those of `known_kernels` whose code is not kept for these sources, this processor and this
    numba. Empty where no code can be kept: compiling ahead would help nobody.

    Takes milliseconds once numba is imported; no kernel is.
    """
    from refdepth.kernel_cache import kernels_folder

    if kernels_folder() is None:
        return ()
    return tuple(kernel for kernel in known_kernels() if not _file(kernel).exists())


def compile_kernel(kernel: str) -> float:
    """Compiles one of `known_kernels` in this process and keeps its code for others. Returns the
    seconds it took, waiting for another process that is at it included; about 0 where it has been
    done already.

    A line that fits no kernel any more (the list is older than the sources) is logged and passed
    over, and stays `uncompiled`. Raises `ValueError` for what is no such line, `MemoryError` and
    `OSError` as the compiler does.
    """
    from numba.core.errors import NumbaError

    from refdepth.signature_text import parse_signature

    module, name, arguments = _parts(kernel)
    types = parse_signature(arguments)
    started = time.perf_counter()
    path = _file(kernel)
    with _alone(path.parent, kernel):
        if path.exists():
            return time.perf_counter() - started
        try:
            function: Any = getattr(importlib.import_module(module), name)
            function.compile(types)
        except (ImportError, AttributeError, NumbaError) as error:
            logger.warning("%s cannot be compiled ahead: %s", kernel, error)
    return time.perf_counter() - started


def _parts(kernel: str) -> tuple[str, str, str]:
    """Module, function and arguments of a line."""
    name, opened, arguments = kernel.partition("(")
    module, colon, function = name.partition(":")
    if not (opened and colon and arguments.endswith(")")):
        raise ValueError(f"{kernel!r} is not module:function(argument types)")
    return module, function, arguments[:-1]


def _file(kernel: str) -> Path:
    from refdepth.kernel_cache import code_file, kernels_folder

    module, function, arguments = _parts(kernel)
    folder = kernels_folder()
    assert folder is not None
    return code_file(folder, f"{module}.{function}", arguments)


@contextmanager
def _alone(folder: Path, kernel: str) -> Iterator[None]:
    """Lets one process at a time work on a kernel. Where there are no locks, or one is held for
    longer than any compilation takes, the work is done all the same: twice costs time only."""
    with ExitStack() as stack:
        with suppress(OSError, ImportError):
            file = stack.enter_context((folder / "kernels.lock").open("ab"))
            _wait_for_lock(file.fileno(), zlib.crc32(kernel.encode()) >> 1)
        yield


def _wait_for_lock(descriptor: int, at: int) -> None:
    """Locks one byte of a file; gives up when patience ends. Raises `OSError` and `ImportError`
    where there are no locks."""
    import fcntl

    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            return
        except (BlockingIOError, PermissionError):  # held by another process
            time.sleep(_POLL_S)
