"""The errors refdepth raises on purpose: each names its subject and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class RefdepthError(Exception):
    """Base of all expected failures.

    `subject` is the file, folder, field or value at fault; `action` is one sentence saying what to
    do next. `str(error)` holds all three.
    """

    def __init__(
        self, message: str, *, subject: str | Path | None = None, action: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = None if subject is None else str(subject)
        self.action = action

    def __reduce__(self) -> tuple[Any, ...]:
        """Comes whole from one process to another."""
        return _remade, (type(self), self.message, self.subject, self.action), self.__dict__

    def __str__(self) -> str:
        head = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{head} {self.action}" if self.action else head


class ConfigurationError(RefdepthError):
    """An option or a configuration field has a value that cannot be used."""


class InputError(RefdepthError):
    """What was given to work on (photos, models, depth maps, workspaces) is refused."""


class StageError(RefdepthError):
    """A stage ran on acceptable input and could not reach a result."""


class UnavailableError(RefdepthError):
    """Something is not installed or not reachable: weights, a package, a system library."""


class WorkspaceBusyError(RefdepthError):
    """Another process owns the workspace."""


class ResourceError(RefdepthError):
    """The machine refused: disk full, no permission, out of memory."""


class Interrupted(RefdepthError):  # noqa: N818  (named after what happened, like KeyboardInterrupt)
    """The run was asked to stop; what is finished is saved."""


def _remade(
    kind: type[RefdepthError], message: str, subject: str | None, action: str | None
) -> RefdepthError:
    return kind(message, subject=subject, action=action)
