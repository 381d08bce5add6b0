"""Frees the space of what a finished run can do without (see `spare`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refdepth.errors import ConfigurationError, ResourceError
from refdepth.pipeline.config import RunInputs
from refdepth.pipeline.files import FULL, list_files, resource_error
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.spare import SPARES, Spare, spares_of
from refdepth.pipeline.stage_status import StageStatus
from refdepth.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

_MADE_FROM = {"photos": ("images", "masks"), "priors": ("depth_maps", "normal_maps")}
"""Which of the paths given to a run each kind was made from."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of spare files as it lies in a workspace."""

    spare: Spare
    files: tuple[str, ...]
    """Paths relative to the stage's folder."""
    bytes: int
    seconds: float
    """What the last run of its stage took."""
    kept: str
    """Why it stays; empty: it can be dropped."""


def parse_keep(names: Sequence[str]) -> tuple[str, ...]:
    """The kinds of spare files called `names`. Raises `ConfigurationError` for one that is none."""
    known = [spare.name for spare in SPARES]
    for name in names:
        if name not in known:
            raise ConfigurationError(
                "is not a kind of file that would be dropped.",
                subject=f"--keep {name}",
                action=f"Use one or more of {', '.join(known)}.",
            )
    return tuple(names)


def find_parts(
    workspace: Workspace,
    inputs: RunInputs,
    statuses: Sequence[StageStatus],
    keep: Collection[str] = (),
) -> list[Part]:
    """The spare files of a workspace whose stages have `statuses`, in their order.

    A kind stays where it is among `keep`, where its stage or one that reads it is not valid, and
    where it could not be made again because what was given to the run is gone.
    """
    by_name = {status.name: status for status in statuses}
    parts = []
    for spare in SPARES:
        found = list_files(workspace.stage_dir(spare.stage))
        sizes = {path: size for path, (size, _) in found.items() if spare.holds(path)}
        if sizes:
            manifest = by_name[spare.stage].manifest
            parts.append(
                Part(
                    spare=spare,
                    files=tuple(sorted(sizes)),
                    bytes=sum(sizes.values()),
                    seconds=manifest.seconds if manifest is not None else 0.0,
                    kept=_why_kept(spare, inputs, by_name, keep),
                )
            )
    return parts


def _why_kept(
    spare: Spare, inputs: RunInputs, statuses: Mapping[str, StageStatus], keep: Collection[str]
) -> str:
    if spare.name in keep:
        return "as asked"
    for name in (spare.stage, *spare.read_by):
        if not statuses[name].is_valid:
            return f"{name} is {statuses[name].state}"
    for given in _MADE_FROM.get(spare.name, ()):
        path = inputs.path(given)
        if path is not None and not path.exists():
            return f"{path} is gone"
    return ""


def drop(workspace: Workspace, parts: Sequence[Part]) -> None:
    """Removes those of `parts` that do not stay; the caller holds the workspace's lock.

    A manifest says so before the files go: stopped at any moment, the stage counts as cleaned. Only
    on a disk that has no room for a manifest it is written after them.
    Raises `ResourceError` where the file system refuses.
    """
    for part in parts:
        if part.kept:
            continue
        folder = workspace.stage_dir(part.spare.stage)
        said = _say_without(part.spare, folder)
        for path in part.files:
            _remove(folder / path)
        if not said:
            _say_without(part.spare, folder, required=True)
        logger.info("dropped %s: %d files, %d bytes", part.spare.name, len(part.files), part.bytes)


def _say_without(spare: Spare, folder: Path, *, required: bool = False) -> bool:
    """Has the manifest of a stage say that a kind of files is gone; False where the disk is too
    full for that and it is not `required`."""
    manifest = Manifest.read(folder)
    rest = None if manifest is None else _without(manifest, spare)
    if rest is None or rest is manifest:
        return True
    try:
        rest.write(folder)
    except ResourceError as error:
        cause = error.__cause__
        if required or not (isinstance(cause, OSError) and cause.errno in FULL):
            raise
        return False
    return True


def _without(manifest: Manifest, spare: Spare) -> Manifest:
    """The manifest without files of a kind; the same where it names none."""
    files = {path: record for path, record in manifest.files.items() if not spare.holds(path)}
    if len(files) == len(manifest.files):
        return manifest
    order = [other.name for other in spares_of(spare.stage)]
    dropped = tuple(name for name in order if name in (*manifest.dropped, spare.name))
    return manifest.model_copy(update={"files": files, "dropped": dropped})


def _remove(path: Path) -> None:
    try:
        os.unlink(path)  # noqa: PTH108  (thousands of files)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise resource_error(error, path) from error
