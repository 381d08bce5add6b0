"""From errors to exit codes: the one place that decides."""

from __future__ import annotations

from enum import IntEnum

from refdepth.errors import (
    ConfigurationError,
    InputError,
    Interrupted,
    RefdepthError,
    ResourceError,
    StageError,
    UnavailableError,
    WorkspaceBusyError,
)


class ExitCode(IntEnum):
    """What the process returns."""

    DONE = 0
    FAILED = 1
    """A fault in refdepth itself."""
    USAGE = 2
    INPUT = 3
    STAGE = 4
    UNAVAILABLE = 5
    BUSY = 6
    RESOURCE = 7
    INTERRUPTED = 130


_CODES: dict[type[RefdepthError], ExitCode] = {
    ConfigurationError: ExitCode.USAGE,
    InputError: ExitCode.INPUT,
    StageError: ExitCode.STAGE,
    UnavailableError: ExitCode.UNAVAILABLE,
    WorkspaceBusyError: ExitCode.BUSY,
    ResourceError: ExitCode.RESOURCE,
    Interrupted: ExitCode.INTERRUPTED,
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of an error that ends the program."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.FAILED
