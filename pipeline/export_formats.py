"""What each export takes from the results and which writer makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.fusion import FusedCloud
from refdepth.io.depth_sets import DepthFile
from refdepth.io.ply import read_ply_vertices
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.results import Results
from refdepth.types.depth_map import DepthMap


class ExportFormat(StrEnum):
    """What a workspace can be exported as."""

    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    DEPTH = "depth"
    SPLAT = "splat"
    MESH = "mesh"
    CLOUD = "cloud"


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


class Source:
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
        """A view's depth; what its mask and the options leave out is unknown."""
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
        mask = self.scene[name].load_mask()
        if mask is not None:
            keep &= mask
        return found.within(keep)

    def cloud(self) -> FusedCloud:
        """The fused cloud without its unsure points. Raises `InputError` when there is none."""
        cloud = read_cloud(self.results)
        keep = cloud.confidence >= self.options.min_confidence
        if keep.all():
            return cloud
        return replace(
            cloud,
            points=cloud.points[keep],
            normals=cloud.normals[keep],
            colors=cloud.colors[keep],
            confidence=cloud.confidence[keep],
        )

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
    path = results.cloud_path
    if not path.is_file():
        raise InputError(
            "holds no fused cloud yet.",
            subject=results.workspace.root,
            action="Run `refdepth reconstruct` (or `refdepth stage fuse`) first.",
        )
    stored = read_ply_vertices(path)
    return FusedCloud(
        points=_columns(stored, "x", "y", "z"),
        normals=_columns(stored, "nx", "ny", "nz", dtype=np.float32),
        colors=_columns(stored, "red", "green", "blue", dtype=np.uint8),
        confidence=stored["confidence"].astype(np.float32),
    )


def write_format(format_: ExportFormat, source: Source, folder: Path) -> str:
    """Writes one export into the empty `folder`; returns what it is in half a line."""
    return _WRITERS[format_](source, folder)


def _columns(
    table: Mapping[str, NDArray[np.generic]], *names: str, dtype: type[np.generic] | None = None
) -> NDArray[Any]:
    """Properties side by side (N, C), as `dtype` or as they are."""
    return np.stack([table[name] for name in names], axis=1).astype(dtype or table[names[0]].dtype)


def _colmap(source: Source, folder: Path) -> str:
    from refdepth.io.colmap import write_dense_workspace

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


def _nerfstudio(source: Source, folder: Path) -> str:
    from refdepth.io.nerfstudio import write_nerfstudio

    names = source.names
    write_nerfstudio(
        folder,
        source.scene,
        source.depth,
        names=names,
        cloud=source.cloud() if source.results.cloud_path.is_file() else None,
        metres_per_unit=metres_per_unit(source.results),
        progress=source.step("depth images"),
    )
    document = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))
    unit = document["depth_unit_scale_factor"]
    return f"{len(names)} views; train with --depth-unit-scale-factor {unit:.9g}"


def _depth(source: Source, folder: Path) -> str:
    from refdepth.io.depth_sets import write_depth_set

    names = source.names
    write_depth_set(
        folder,
        source.scene,
        source.depth,
        kinds=source.options.depth_files,
        names=names,
        metres_per_unit=metres_per_unit(source.results),
        progress=source.step("depth maps"),
    )
    return f"{len(names)} views as {', '.join(source.options.depth_files)}"


def _splat(source: Source, folder: Path) -> str:
    from refdepth.io.splat import MAX_POINTS, write_splat_dataset

    cloud = source.cloud()
    write_splat_dataset(folder, source.scene, cloud)
    return f"{len(source.scene)} photos, {min(len(cloud), MAX_POINTS):,} initial points"


def _mesh(source: Source, folder: Path) -> str:
    from refdepth.fusion import fuse_mesh
    from refdepth.io.mesh_files import without_fragments, write_glb
    from refdepth.io.ply import write_mesh_ply
    from refdepth.types.scene import Scene

    names = source.names
    scene = Scene([source.scene[name] for name in names], source.scene.points)
    config = source.results.workspace.request().config
    cache = MemoryBudget.of(config.runtime.max_memory_gb).depth_maps
    fused = fuse_mesh(scene, source.depth, config.fuse, source.step("mesh"), cache_mb=cache / 2**20)
    mesh = without_fragments(fused)
    write_mesh_ply(folder / "mesh.ply", mesh)
    write_glb(folder / "mesh.glb", mesh)
    return f"{len(mesh.triangles):,} triangles"


def _cloud(source: Source, folder: Path) -> str:
    from refdepth.io.cloud_files import write_las
    from refdepth.io.ply import write_ply

    cloud = source.cloud()
    for kind in source.options.cloud_files:
        path = folder / f"cloud.{kind}"
        if kind is CloudFile.PLY:
            write_ply(path, cloud)
        else:
            write_las(path, cloud)
    return f"{len(cloud):,} points as {', '.join(source.options.cloud_files)}"


_WRITERS: dict[ExportFormat, Callable[[Source, Path], str]] = {
    ExportFormat.COLMAP: _colmap,
    ExportFormat.NERFSTUDIO: _nerfstudio,
    ExportFormat.DEPTH: _depth,
    ExportFormat.SPLAT: _splat,
    ExportFormat.MESH: _mesh,
    ExportFormat.CLOUD: _cloud,
}
