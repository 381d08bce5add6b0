"""What every command that works on a workspace needs around it: lock, log, signals, progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refdepth.cli.console import err, make_progress
from refdepth.cli.interrupts import stop_on_signals
from refdepth.errors import Interrupted, RefdepthError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.choose_executor import choose_executor
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.files import resource_error
from refdepth.pipeline.lock import WorkspaceLock
from refdepth.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_UNGUARDED = (
    "The file system of the output folder has no locks: see to it that no second command works on"
    " this folder."
)


@contextmanager
def working_on(
    workspace: Workspace,
    request: RunRequest | None,
    *,
    quiet: bool,
    debug: bool,
    wait: bool,
    go_on: str,
    workers: int | str | None = None,
    cluster: str | None = None,
    max_memory_gb: float | None = None,
) -> Iterator[Engine]:
    """An engine on a locked workspace. `request` replaces what was asked of it; None keeps that.
    `go_on` is the command that continues after an interruption; `workers`, `cluster` and
    `max_memory_gb` hold for this command alone."""
    cancellation = Cancellation()
    message = f"Stopped; what is finished is saved. Go on with: {go_on}"

    def say() -> None:
        err.print(message, markup=False, soft_wrap=True)

    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(cancellation, say))
        lock = stack.enter_context(
            WorkspaceLock(
                workspace.root,
                wait=wait,
                on_wait=lambda owner: err.print(f"Waiting for {owner} …", markup=False),
                check=cancellation.check,
            )
        )
        workspace.clean()
        stack.enter_context(_log_to(workspace.log_path, debug=debug))
        if request is None:
            request = workspace.request()
        else:
            workspace.write_request(request)
        progress = make_progress(quiet=quiet)
        stack.enter_context(progress)
        if not lock.guarded:
            logger.warning(_UNGUARDED)
            progress.note(_UNGUARDED)
        request = request.for_command(workers=workers, cluster=cluster, max_memory_gb=max_memory_gb)
        executor = choose_executor(workspace.root, request)
        stack.callback(executor.close)
        try:
            yield Engine(
                workspace, request, progress=progress, cancellation=cancellation, executor=executor
            )
        except Interrupted as error:
            raise Interrupted(message) from error
        finally:
            workspace.save_hashes()


def report_on(engine: Engine) -> None:
    """Writes the report of a finished run. That it cannot be written ends no run."""
    from refdepth.pipeline.report import write_report

    started = time.monotonic()
    engine.progress.stage_started("report", "what was done, view by view")
    try:
        path = write_report(
            engine.workspace,
            engine.executor,
            progress=engine.progress,
            cancellation=engine.cancellation,
        )
    except Interrupted:
        raise
    except (RefdepthError, OSError, MemoryError, ImportError) as error:
        logger.warning("no report: %s", error)
        err.print(f"The report could not be written: {error}", markup=False, soft_wrap=True)
    else:
        engine.progress.stage_finished("report", time.monotonic() - started, path.name)


class _PatientLog(logging.FileHandler):
    """A log that a full disk silences: what matters is said on the terminal too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Ignores it."""

    def close(self) -> None:
        """Closes the file; what could not be flushed is lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def _log_to(path: Path, *, debug: bool) -> Iterator[None]:
    try:
        handler = _PatientLog(path, encoding="utf-8")
    except OSError as error:
        raise resource_error(error, path) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    level = logging.DEBUG if debug else logging.INFO
    ours = logging.getLogger("refdepth")
    before = ours.level
    ours.setLevel(level)
    ours.addHandler(handler)
    try:
        yield
    except Exception as error:
        expected = isinstance(error, RefdepthError)
        logger.error("%s", error, exc_info=None if expected and not debug else error)
        raise
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)
        handler.close()
