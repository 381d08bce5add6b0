"""A workspace's results in the files that other tools read."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cancellation import Cancellation
from pipeline.files import read_json, replacing, write_json
from pipeline.progress import Progress, Silent
from pipeline.results import Results
from pipeline.workspace import Workspace
from refdepth.depth_map import DepthMap
from refdepth.errors import ConfigurationError, InputError
from refdepth.fusion import FusedCloud

EXPORT_DIR = "export"
MARKER_NAME = "refdepth-export.json"
"""In every export; says what it is, in which unit, and that it may be replaced with --force."""


class ExportFormat(StrEnum):
    """What a workspace can be exported as."""

    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    DEPTH = "depth"
    SPLAT = "splat"
    MESH = "mesh"
    CLOUD = "cloud"


class DepthFile(StrEnum):
    """Files of the `depth` export."""

    PNG16 = "png16"
    TIFF32 = "tiff32"
    NPZ = "npz"
    PICTURES = "pictures"


class CloudFile(StrEnum):
    """Files of the `cloud` export."""

    PLY = "ply"
    LAS = "las"
    LAZ = "laz"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported of each depth map and cloud, and how."""

    min_confidence: float = 0.0
    """Less sure pixels and points are left out."""
    consistent: bool = False
    """Whether only pixels count that other views confirm (the fuse stage's masks)."""
    depth_files: tuple[DepthFile, ...] = (DepthFile.PNG16, DepthFile.PICTURES)
    cloud_files: tuple[CloudFile, ...] = (CloudFile.PLY,)


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


def export(
    workspace: Workspace,
    formats: Sequence[ExportFormat],
    *,
    folder: Path | None = None,
    options: ExportOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> dict[ExportFormat, Path]:
    """Writes each format into `folder/FORMAT` (default: `OUT/export/FORMAT`); returns the folders.

    A folder appears whole or not at all. One that is there already is replaced only with `force`,
    and only when it is an earlier export.

    Raises `InputError` when a folder is in the way or the workspace has no result to export.
    """
    folder = workspace.root / EXPORT_DIR if folder is None else folder
    targets = {format_: folder / format_.value for format_ in formats}
    for target in targets.values():
        _check_target(target, force=force)
    progress = progress or Silent()
    source = _Source(
        Results(workspace),
        options or ExportOptions(),
        progress=progress,
        cancellation=cancellation or Cancellation(),
    )
    for format_, target in targets.items():
        started = time.monotonic()
        progress.stage_started(format_.value, "export")
        with replacing(target) as temporary:
            temporary.mkdir()
            headline = _WRITERS[format_](source, temporary)
            write_json(temporary / MARKER_NAME, _marker(source, format_, headline))
            if target.exists():
                shutil.rmtree(target)
        progress.stage_finished(format_.value, time.monotonic() - started, headline)
    return targets


class _Source:
    """The results as exports see them: filtered depth and cloud, steps that can be cancelled."""

    def __init__(
        self,
        results: Results,
        options: ExportOptions,
        *,
        progress: Progress,
        cancellation: Cancellation,
    ) -> None:
        self.results = results
        self.options = options
        self.scene = results.scene
        self._progress = progress
        self._cancellation = cancellation

    @property
    def names(self) -> tuple[str, ...]:
        """Views with refined depth. Raises `InputError` when there is none."""
        names = self.results.views("refine")
        if not names:
            raise InputError(
                "holds no refined depth yet.",
                subject=self.results.workspace.root,
                action="Run `refdepth reconstruct` (or `refdepth stage refine`) first.",
            )
        return names

    def depth(self, name: str) -> DepthMap:
        """A view's depth; what the options leave out is unknown."""
        self._cancellation.check()
        found = self.results.refined(name)
        keep = found.valid & (found.confidence >= self.options.min_confidence)
        if self.options.consistent:
            confirmed = self.results.consistent(name)
            if confirmed is None:
                raise InputError(
                    "has no masks of consistent pixels.",
                    subject=self.results.workspace.root,
                    action="Run `refdepth stage fuse` first, or leave out --consistent.",
                )
            keep &= confirmed
        zero = np.float32(0)
        return DepthMap(
            depth=np.where(keep, found.depth, zero),
            confidence=np.where(keep, found.confidence, zero),
        )

    def cloud(self) -> FusedCloud:
        """The fused cloud without its unsure points. Raises `InputError` when there is none."""
        cloud = read_cloud(self.results)
        keep = cloud.confidence >= self.options.min_confidence
        if keep.all():
            return cloud
        return FusedCloud(
            points=cloud.points[keep],
            normals=cloud.normals[keep],
            colors=cloud.colors[keep],
            confidence=cloud.confidence[keep],
        )

    @property
    def metres_per_unit(self) -> float | None:
        """Metres in one SfM unit, where a stage found out."""
        return metres_per_unit(self.results)

    def step(self, label: str) -> Callable[[int, int], None]:
        """A progress callback."""

        def report(done: int, total: int) -> None:
            self._cancellation.check()
            self._progress.step(label, done, total)

        return report


def metres_per_unit(results: Results) -> float | None:
    """Metres in one SfM unit, where a stage found out; None where the scale is arbitrary."""
    for stage in ("sfm", "scale"):
        manifest = results.manifest(stage)
        value = manifest.summary.get("metres_per_unit") if manifest else None
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def read_cloud(results: Results) -> FusedCloud:
    """The fused cloud. Raises `InputError` when the fuse stage has not run."""
    import open3d as o3d

    path = results.cloud_path
    if not path.is_file():
        raise InputError(
            "holds no fused cloud yet.",
            subject=results.workspace.root,
            action="Run `refdepth reconstruct` (or `refdepth stage fuse`) first.",
        )
    stored = o3d.t.io.read_point_cloud(str(path)).point
    count = len(stored.positions)
    if count == 0:
        raise InputError("holds no points.", subject=path, action="Run `refdepth stage fuse`.")
    confidence = stored["confidence"].numpy().reshape(-1) if "confidence" in stored else None
    return FusedCloud(
        points=stored.positions.numpy().astype(np.float32),
        normals=stored.normals.numpy().astype(np.float32),
        colors=stored.colors.numpy().astype(np.uint8),
        confidence=np.ones(count, np.float32) if confidence is None else confidence,
    )


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
        raise InputError(
            "is there already.", subject=target, action="Replace it with --force."
        )


def _marker(source: _Source, format_: ExportFormat, headline: str) -> dict[str, Any]:
    options = source.options
    manifests = {name: source.results.manifest(name) for name in ("sfm", "refine", "fuse")}
    return {
        "format": format_.value,
        "content": headline,
        "refdepth": importlib.metadata.version("refdepth"),
        "unit": "SfM units",
        "metres_per_unit": source.metres_per_unit,
        "min_confidence": options.min_confidence,
        "consistent": options.consistent,
        "made_from": {name: m.fingerprint for name, m in manifests.items() if m is not None},
    }


def is_export(folder: Path) -> bool:
    """Whether `folder` is one that `export` wrote."""
    marker = read_json(folder / MARKER_NAME)
    return isinstance(marker, dict) and marker.get("format") in list(ExportFormat)


def _colmap(source: _Source, folder: Path) -> str:
    from refdepth.formats.colmap import write_dense_workspace

    names = source.names
    write_dense_workspace(
        folder,
        source.scene,
        source.depth,
        model_dir=source.results.model_dir,
        names=names,
        progress=source.step("depth and normal maps"),
    )
    return f"dense workspace, {len(names)} views"


def _nerfstudio(source: _Source, folder: Path) -> str:
    from refdepth.formats.nerfstudio import write_nerfstudio

    names = source.names
    write_nerfstudio(
        folder,
        source.scene,
        source.depth,
        names=names,
        cloud=source.cloud() if source.results.cloud_path.is_file() else None,
        metres_per_unit=source.metres_per_unit,
        progress=source.step("depth images"),
    )
    unit = read_json(folder / "transforms.json")["depth_unit_scale_factor"]
    return f"transforms.json, {len(names)} views; --depth-unit-scale-factor {unit:.8g}"


def _splat(source: _Source, folder: Path) -> str:
    from refdepth.formats.splat import MAX_POINTS, write_splat_dataset

    cloud = source.cloud()
    write_splat_dataset(folder, source.scene, cloud)
    return f"{len(source.scene)} photos, {min(len(cloud), MAX_POINTS):,} initial points"


_WRITERS: dict[ExportFormat, Callable[[_Source, Path], str]] = {
    ExportFormat.COLMAP: _colmap,
    ExportFormat.NERFSTUDIO: _nerfstudio,
    ExportFormat.SPLAT: _splat,
}
