"""Where compiled kernels are kept: one file a function and signature, all in one folder.

numba's own cache keeps an index for each function, which two processes that compile two signatures
of it at once overwrite for each other. Here a file's name says all that its content depends on, so
that nothing has to be indexed or locked, and whether a kernel is compiled is seen without loading
it: `{module}.{function}-{signature and machine}-{sources}.nbc`.

The folder is the first that can be written of: one named by `NUMBA_CACHE_DIR`, `__pycache__` in
this package, the user's cache folder, and a private folder among the system's temporary files.
Compiled code is pickled: whoever can write it can run code as its reader. So the last two have to
be the user's own, and nobody else may be able to write there.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pickle
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from refdepth.signature_text import signature_text

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent
_DECORATORS = "refdepth.compiled"
_OPTIONS = (
    "CPU_NAME",
    "CPU_FEATURES",
    "ENABLE_AVX",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "DISABLE_INTEL_SVML",
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "USING_SVML",
)
"""numba's settings that change the code it makes."""
_LLVM = tuple(map(str, llvm.llvm_version_info))
_DIGEST_BYTES = 32


class KernelCache(_Cache):
    """numba's cache of one function's compiled code, valid as long as no file with kernels
    changes. Code that cannot be read is compiled again; that it cannot be kept is said once.

    Raises `RuntimeError` where there is no folder to keep it in.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        folder = kernels_folder()
        if folder is None:
            raise RuntimeError("no folder can be written to keep compiled code in")
        self._folder = folder
        self._function = function
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for argument types `sig`; None where there is none."""
        if not self._enabled:
            return None
        target_context.refresh()  # as numba does: what it is rebuilt with has to be there
        payload = _read(self.file(sig))
        return None if payload is None else CompileResult._rebuild(target_context, *payload)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps a compiled function; what was made from older sources makes room for it."""
        if not self._enabled or data.lifted or data.library.has_dynamic_globals:
            return  # pointers into this process have no meaning in another
        path = self.file(sig)
        try:
            _write(path, dumps(data._reduce()))
            for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.nbc"):
                if old.name != path.name:
                    old.unlink(missing_ok=True)
        except OSError as error:
            _warn_that_it_was_refused(error.strerror)

    def file(self, sig: Any) -> Path:
        """Where the code for argument types `sig` lies."""
        function = self._function
        arguments = signature_text(sig)
        if function.__closure__ is not None:
            cells = dumps(tuple(cell.cell_contents for cell in function.__closure__))
            arguments += hashlib.sha256(cells).hexdigest()
        own_file = Path(function.__code__.co_filename)
        sources = kernel_sources()
        if not own_file.is_relative_to(PACKAGE):
            sources += hashlib.sha256(own_file.read_bytes()).hexdigest()
        name = f"{function.__module__}.{function.__qualname__}"
        return code_file(self._folder, name, arguments, sources)

    def enable(self) -> None:
        """Has code be kept, as it is from the beginning."""
        self._enabled = True

    def disable(self) -> None:
        """Has code neither be read nor kept."""
        self._enabled = False

    def flush(self) -> None:
        """Nothing waits to be written."""


def code_file(folder: Path, name: str, arguments: str, sources: str | None = None) -> Path:
    """The file of one compiled function: `name` with its module, `arguments` as `signature_text`
    says them, `sources` a hash of what it is made from (default: of this package)."""
    short = name.removeprefix("refdepth.").replace("<", "").replace(">", "")
    made_for = _short_hash(arguments, machine())
    made_from = _short_hash(sources or kernel_sources(), numba.__version__, *_LLVM)
    return folder / f"{short}-{made_for}-{made_from}.nbc"


@functools.cache
def kernels_folder() -> Path | None:
    """Where all compiled code of this package is kept; None where no folder can be written."""
    return next((folder for folder in _candidates() if _writable(folder)), None)


@functools.cache
def kernel_sources() -> str:
    """Hash of all files of this package that use the decorators, and of theirs."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if _DECORATORS.encode() in source or path == PACKAGE / "compiled.py":
            digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()


@functools.cache
def machine() -> str:
    """What compiled code runs on: the processor and what it can do, Python, numba's settings."""
    features = llvm.get_host_cpu_features().flatten()
    processor = f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"
    options = (f"{name}={getattr(config, name, None)}" for name in _OPTIONS)
    return " ".join([processor, str(sys.implementation.cache_tag), *options])


@functools.cache
def warn_that_nothing_is_kept() -> None:
    """Says once that every start compiles again, and what to do."""
    logger.warning(
        "no folder can be written to keep compiled code in, so every start compiles again. "
        "Set NUMBA_CACHE_DIR to a folder that can be."
    )


@functools.cache
def _warn_that_it_was_refused(reason: str) -> None:
    logger.warning(
        "compiled code cannot be kept in %s (%s), so the next start compiles again. "
        "Set NUMBA_CACHE_DIR to another folder.",
        kernels_folder(),
        reason,
    )


def _candidates() -> Iterator[Path]:
    """The folders, best first, those that have to be private only if they are."""
    installed = f"refdepth_{_short_hash(str(PACKAGE.resolve()))}"
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR) / installed
    yield PACKAGE / "__pycache__"
    users = Path(AppDirs(appname="refdepth", appauthor=False).user_cache_dir)
    if _private(users):
        yield users / installed
    temporary = Path(tempfile.gettempdir()) / f"refdepth-{_user()}"
    if _private(temporary):
        yield temporary / installed


def _private(folder: Path) -> bool:
    """Makes a folder that only this user can write; False where it is or may be somebody else's."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found, above = folder.lstat(), folder.parent.stat()
    except OSError:
        return False
    if _user() is None:
        return True  # Windows: both folders are in the user's own
    exchangeable = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == _user()
    return own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not exchangeable


def _user() -> int | None:
    return os.getuid() if hasattr(os, "getuid") else None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _read(path: Path) -> Any:
    """What `_write` wrote; None where nothing is, or half of it."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        logger.debug("%s is damaged and is compiled again", path)
        return None
    return pickle.loads(data)


def _write(path: Path, data: bytes) -> None:
    """Beside its place, then renamed into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _short_hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
