"""What each export takes from the results and which writer makes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from refdepth.errors import InputError
from refdepth.io.depth_sets import DepthFile
from refdepth.io.images import load_mask
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.results import Results
from refdepth.types.cloud import PointCloud
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
    """Whether the depth is the one that other views confirm and agree on (the fuse stage's)."""
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
        """A view's depth, with `consistent` the agreed one; what its mask and the options leave out
        is unknown."""
        if self.options.consistent:
            return self.agreed(name)
        return self._kept(name, self.results.refined(name))

    def agreed(self, name: str) -> DepthMap:
        """The depth that a view and others agree on; what its mask and the options leave out is
        unknown. Raises `InputError` when there is none."""
        if name not in self._fused:
            raise InputError(
                f"has no depth of {name} that other views were asked to confirm.",
                subject=self.results.workspace.root,
                action="Run `refdepth stage fuse` first.",
            )
        return self._kept(name, self.results.fused(name))

    def _kept(self, name: str, found: DepthMap) -> DepthMap:
        self._cancellation.check()
        keep = found.valid & (found.confidence >= self.options.min_confidence)
        mask = load_mask(self.scene[name])
        if mask is not None:
            keep &= mask
        return found.within(keep)

    @cached_property
    def _fused(self) -> frozenset[str]:
        return frozenset(self.results.views("fuse"))

    def cloud(self) -> PointCloud:
        """The fused cloud without its unsure points. Raises `InputError` when there is none."""
        cloud = self.results.cloud()
        keep = cloud.confidence >= self.options.min_confidence
        return cloud if keep.all() else cloud.select(keep)

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


def write_format(format_: ExportFormat, source: Source, folder: Path) -> str:
    """Writes one export into the empty `folder`; returns what it is in half a line."""
    return _WRITERS[format_](source, folder)


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
    from refdepth.fusion.tsdf import without_fragments
    from refdepth.io.glb import write_glb
    from refdepth.io.ply import write_mesh_ply
    from refdepth.types.scene import Scene

    scene = Scene([source.scene[name] for name in source.names], source.scene.points)
    settings = source.results.workspace.request().config.mesh
    mesh = without_fragments(fuse_mesh(scene, source.agreed, settings, source.step("mesh")))
    write_mesh_ply(folder / "mesh.ply", mesh)
    write_glb(folder / "mesh.glb", mesh)
    return f"{len(mesh.triangles):,} triangles"


def _cloud(source: Source, folder: Path) -> str:
    from refdepth.io.las import write_las
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
