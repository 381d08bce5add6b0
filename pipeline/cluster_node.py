"""What runs on the nodes of a Ray cluster: a node is asked what it is and sees, then does items.

The functions here are sent by name, so every node needs the same refdepth; a process that Ray has
started keeps the works that it has opened, and what they keep, for the items that come next.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdepth.cores import usable_cores
from refdepth.errors import Interrupted, RefdepthError, UnavailableError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.environment import prepare_process
from refdepth.pipeline.memory import MemoryBudget, PeakMemory
from refdepth.pipeline.work import Desk, Work
from refdepth.pipeline.worker import packed
from refdepth.threads import use_threads

THREADS = 1
"""Of a task. What counts cores when it starts is told so."""
_KEPT_WORKS = 2
_MOST_LINES = 200
"""Log lines of an item that are sent back."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every node has to be and see, as found on the machine that the command runs on."""

    workspace: Path
    probe: str
    """Name of a file in the workspace."""
    content: str
    """What is in it."""
    given: tuple[tuple[str, int | None], ...]
    """Paths from outside the workspace, with the size of files in bytes."""
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The work that items belong to."""

    work: Work[Any]
    expected: Expected
    cache_bytes: int | None
    """For what is kept between items; None: as the node has memory."""
    log_level: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What comes back of an item."""

    place: str
    """Who has done it."""
    result: Any = None
    error: bytes | None = None
    """What the item has raised, pickled with its traceback as a note."""
    seconds: float = 0.0
    peak_mb: float = 0.0
    lines: tuple[tuple[str, int, str], ...] = ()
    """Logger, level and text of log lines."""


def versions() -> dict[str, str]:
    """All in this process that determines results, by what it is called."""
    from refdepth.pipeline.manifest import library_versions

    found = library_versions()
    found["python"] = ".".join(platform.python_version_tuple()[:2])
    return found | {"refdepth's own code": own_code()}


@functools.cache
def own_code() -> str:
    """Hash of the method's and the pipeline's Python files, those with compiled loops among
    them."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(package, followlinks=True):
        folders[:] = sorted(set(folders) - {"cli", "__pycache__"})
        for path in sorted(Path(folder) / file for file in files if file.endswith(".py")):
            content = hashlib.sha256(path.read_bytes()).digest()
            digest.update(path.relative_to(package).as_posix().encode() + content)
    return digest.hexdigest()[:12]


def check(expected: Expected) -> bytes | None:
    """Compares this node with what is expected of it: None, or the first difference as a packed
    error."""
    _prepare()
    try:
        _compare(expected)
    except RefdepthError as error:
        return packed(error)
    return None


def perform(assignment: Sequence[Any], mark: Path, name: str) -> Answer:
    """Does the item `name` of the work that the one reference in `assignment` stands for. `mark` is
    the work's own file, there for as long as its items are wanted: Ray may still begin with one
    that is being taken back, and nothing is done then."""
    _prepare()
    started, peak = time.perf_counter(), PeakMemory()
    ours = logging.getLogger("refdepth")
    kept = _Kept()
    ours.addHandler(kept)
    place = f"{node_title()}, process {os.getpid()}"
    try:
        opened = _opened(assignment, mark)
        if not mark.exists():
            raise Interrupted("not wanted any more.", subject=name)
        result = opened(name)
    except BaseException as error:
        return Answer(place=place, error=packed(error), lines=tuple(kept.lines))
    finally:
        ours.removeHandler(kept)
    return Answer(
        place=place,
        result=result,
        seconds=time.perf_counter() - started,
        peak_mb=peak.megabytes(),
        lines=tuple(kept.lines),
    )


def node_title() -> str:
    """This node in messages, like `render-07 (10.0.0.7)`."""
    import ray

    return title(socket.gethostname(), ray.util.get_node_ip_address())


def title(host: str, address: str) -> str:
    """A node in messages."""
    return f"{host} ({address})"


class _Kept(logging.Handler):
    """Log lines until they are sent back."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one line."""
        if len(self.lines) < _MOST_LINES:
            self.lines.append((record.name, record.levelno, record.getMessage()))


_works: dict[Path, Callable[[str], Any]] = {}
_shared: dict[Hashable, Any] = {}


def _opened(assignment: Sequence[Any], mark: Path) -> Callable[[str], Any]:
    """The work of a mark, opened; a node is checked before its first."""
    if mark not in _works:
        import ray

        task: Assignment = ray.get(assignment[0])
        _compare(task.expected)
        logging.getLogger("refdepth").setLevel(task.log_level)
        use_threads(THREADS)
        while len(_works) >= _KEPT_WORKS:
            _works.pop(next(iter(_works)))
        _works[mark] = task.work.open(
            Desk(
                cancellation=Cancellation(),  # a stop ends the process
                step=lambda share: None,
                cache_bytes=_cache_bytes(task),
                kept=_shared,
            )
        )
    return _works[mark]


def _cache_bytes(task: Assignment) -> int:
    if task.cache_bytes is not None:
        return task.cache_bytes
    share = MemoryBudget.limit(None) / usable_cores() - task.work.cost.bytes
    return int(min(max(share, 0), task.work.cost.cache_bytes))


@functools.cache
def _prepare() -> None:
    """What a process needs before anything heavy is imported in it."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(THREADS))
    prepare_process()


def _compare(expected: Expected) -> None:
    """Raises `UnavailableError` for the first difference."""
    ours = versions()
    for name in sorted({*ours, *expected.versions}):
        here, there = ours.get(name, "none"), expected.versions.get(name, "none")
        if here != there:
            raise UnavailableError(
                f"has {name} {here}; where the command was given it is {there}, and results would"
                " be a mixture.",
                subject=f"node {node_title()}",
                action=f"Install the same refdepth on every node (its Python: {sys.executable}).",
            )
    _see_workspace(expected)
    for path, size in expected.given:
        found = Path(path)
        if not found.exists() or (size is not None and found.stat().st_size != size):
            what = "does not see" if not found.exists() else "sees another"
            raise UnavailableError(
                f"{what} {path}.",
                subject=f"node {node_title()}",
                action="Put it on storage that all nodes see under the same path.",
            )


def _see_workspace(expected: Expected) -> None:
    probe = expected.workspace / expected.probe
    try:
        seen = probe.read_text() == expected.content
        how = "sees another folder"
    except OSError as error:
        seen, how = False, f"cannot read it ({error.strerror})"
    if seen:
        own = probe.with_name(f"{probe.name}-{socket.gethostname()}-{os.getpid()}")
        try:
            own.write_text(expected.content)
            own.unlink()
            return
        except OSError as error:
            how = f"cannot write to it ({error.strerror})"
    raise UnavailableError(
        f"does not share the output folder {expected.workspace}: it {how}.",
        subject=f"node {node_title()}",
        action="Put the output folder on storage that all nodes see under the same path and may"
        " write to.",
    )
