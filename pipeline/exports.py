"""A workspace's results in the files that other tools read."""

from __future__ import annotations

import importlib.metadata
import secrets
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from refdepth.errors import ConfigurationError, InputError
from refdepth.io.depth_sets import DepthFile, DepthSense
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.elsewhere import passing
from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.export_formats import write_format
from refdepth.pipeline.export_notes import note
from refdepth.pipeline.export_options import CloudFile, ExportFormat, ExportOptions, Grid
from refdepth.pipeline.export_source import Source
from refdepth.pipeline.files import replacing, resource_error, write_json
from refdepth.pipeline.metric import world_of
from refdepth.pipeline.progress import Progress, Silent
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import EXPORT_DIR, Workspace

__all__ = [
    "CloudFile",
    "DepthFile",
    "ExportFormat",
    "ExportOptions",
    "Grid",
    "export",
    "parse_formats",
    "parse_kinds",
    "refuse_metres",
]

Kind = TypeVar("Kind", bound=StrEnum)

MARKER_NAME = "refdepth-export.json"
"""In every export; says what it is and in which unit, and that --force may replace it."""


def parse_formats(names: Sequence[str]) -> tuple[ExportFormat, ...]:
    """The formats called `names`, each once, in order.

    Raises `ConfigurationError` for an unknown name and for none.
    """
    known = ", ".join(ExportFormat)
    if not names:
        raise ConfigurationError(
            "names no format.", subject="--to", action=f"Use one or more of {known}."
        )
    for name in names:
        if name not in list(ExportFormat):
            raise ConfigurationError(
                "is not an export format.", subject=f"--to {name}", action=f"Use one of {known}."
            )
    return tuple(dict.fromkeys(ExportFormat(name) for name in names))


def parse_kinds(
    option: str, names: Sequence[str] | None, kinds: type[Kind], default: tuple[Kind, ...]
) -> tuple[Kind, ...]:
    """The members of `kinds` called `names`, each once; `default` when none is given.

    Raises `ConfigurationError` for an unknown name.
    """
    for name in names or ():
        if name not in list(kinds):
            raise ConfigurationError(
                "is none of the kinds.",
                subject=f"{option} {name}",
                action=f"Use one or more of {', '.join(kinds)}.",
            )
    return tuple(dict.fromkeys(kinds(name) for name in names)) if names else default


def export(
    workspace: Workspace,
    formats: Sequence[ExportFormat],
    *,
    folder: Path | None = None,
    options: ExportOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
    executor: Executor | None = None,
) -> dict[ExportFormat, Path]:
    """Writes each format into `folder/FORMAT` (default: `OUT/export/FORMAT`); returns the folders.

    `executor` does what goes by view (default: this process); the files do not depend on it. A
    folder appears whole or not at all. One that is there already is replaced only with `force`, and
    only when it is an earlier export.

    Raises `InputError` when a folder is in the way or the workspace has no result to export,
    `UnavailableError` when a kind of file needs a library that is not installed, and
    `ConfigurationError` for options that none of the formats has.
    """
    options = options or ExportOptions()
    if options.sense != DepthSense() and ExportFormat.DEPTH not in formats:
        raise ConfigurationError(
            "are for the depth export alone; all others have z on the undistorted grid.",
            subject="--ray-depth and --grid",
            action="Add --to depth, or leave them out.",
        )
    if options.metres:
        refuse_metres(formats)
    folder = workspace.root / EXPORT_DIR if folder is None else folder
    targets = {format_: folder / format_.value for format_ in formats}
    for target in targets.values():
        _check_target(target, force=force)
    progress = progress or Silent()
    source = Source(
        Results(workspace),
        options,
        progress=progress,
        cancellation=cancellation or Cancellation(),
        executor=executor or SerialExecutor(),
    )
    for format_, target in targets.items():
        started = time.monotonic()
        progress.stage_started(format_.value, "export")
        _make_folder(target.parent)
        with passing(workspace.root) as note, replacing(target) as temporary:
            before = temporary.with_name(f"{temporary.name}-{secrets.token_hex(8)}")
            note(temporary, before)
            temporary.mkdir()
            headline = write_format(format_, source, temporary)
            write_json(temporary / MARKER_NAME, _marker(source, format_, headline))
            _check_target(target, force=force)
            if target.exists():
                target.rename(before)  # at once: half removed it would be no export any more
        progress.stage_finished(format_.value, time.monotonic() - started, headline)
    return targets


def refuse_metres(formats: Sequence[ExportFormat]) -> None:
    """Raises `ConfigurationError` where a format is not written in metres, or there is none."""
    if not formats:
        raise ConfigurationError(
            "is about exports.", subject="--metres", action="Add --export FORMAT, or leave it out."
        )
    unscaled = [f.value for f in (ExportFormat.NERFSTUDIO, ExportFormat.GRAPHDECO) if f in formats]
    if unscaled:
        raise ConfigurationError(
            f"is not for {' and '.join(unscaled)}: their trainers scale scenes themselves.",
            subject="--metres",
            action="Leave it out; `metres_per_unit` stands in refdepth-export.json.",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            "is a file, or lies in one.", subject=folder, action="Name a folder with --output."
        ) from error
    except OSError as error:
        raise resource_error(error, folder) from error


def _check_target(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    ours = target.is_dir() and not target.is_symlink() and (target / MARKER_NAME).is_file()
    if not ours:
        raise InputError(
            "is there already and is not an earlier export.",
            subject=target,
            action="Choose another place with --output, or move it away.",
        )
    if not force:
        raise InputError("is there already.", subject=target, action="Replace it with --force.")


def _marker(source: Source, format_: ExportFormat, headline: str) -> dict[str, Any]:
    manifests = {name: source.results.manifest(name) for name in ("sfm", "refine", "fuse")}
    return {
        "format": format_.value,
        "content": headline,
        "refdepth": importlib.metadata.version("refdepth"),
        **note(format_, source.options),
        "metres_per_unit": source.metres_per_unit,
        **_world(source, format_),
        "min_confidence": source.options.min_confidence,
        "consistent": source.options.consistent,
        **_details(source, format_),
        "made_from": {name: m.fingerprint for name, m in manifests.items() if m is not None},
    }


def _world(source: Source, format_: ExportFormat) -> dict[str, Any]:
    """Of an export in metres: what became of the scene's own axes, and what the result's are."""
    if not source.options.metres:
        return {}
    told: dict[str, Any] = {"world": world_of(source.results)}
    if source.utm is not None and format_ is ExportFormat.CLOUD:
        told["crs"] = f"EPSG:{source.utm.zone.epsg} in LAS, LAZ and COPC; altitudes as in EXIF"
    return told


def _details(source: Source, format_: ExportFormat) -> dict[str, Any]:
    """What a format has of its own."""
    match format_:
        case ExportFormat.DEPTH:
            return {"files": list(source.options.depth_files)}
        case ExportFormat.CLOUD:
            return {"files": list(source.options.cloud_files)}
        case ExportFormat.MESH:
            return {"mesh": source.results.workspace.request().config.mesh.result_fields()}
    return {}
