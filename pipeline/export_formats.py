"""What each export takes from the results and which writer makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refdepth.errors import InputError
from refdepth.io.depth_sets import DepthFile
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.export_options import CloudFile, ExportFormat, ExportOptions
from refdepth.pipeline.export_views import DenseViews, DepthFiles, Farthest, Frames, KeptDepth
from refdepth.pipeline.performing import perform
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.results import Results
from refdepth.pipeline.views import errors_by_photo
from refdepth.pipeline.work import Cost, Result, Watch, Work
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap

_READ_SECONDS, _DENSE_SECONDS, _FRAME_SECONDS = 0.01, 0.4, 0.45
"""Of a core for a megapixel: to read a depth map, and to read and write what two formats have of a
view."""
_KIND_SECONDS = {
    DepthFile.PNG16: 0.45,
    DepthFile.TIFF32: 0.01,
    DepthFile.NPZ: 0.02,
    DepthFile.PICTURES: 0.04,
}
"""The same to write a kind of depth file."""
_BYTES = 80
"""Memory for a pixel; most of it for normals."""


class Source:
    """The results as exports see them: filtered depth and cloud, steps that can be cancelled."""

    def __init__(
        self,
        results: Results,
        options: ExportOptions,
        *,
        progress: Progress,
        cancellation: Cancellation,
        executor: Executor,
    ) -> None:
        self.results = results
        self.options = options
        self.scene = results.scene
        self._depth = KeptDepth(results, options)
        self._progress = progress
        self._cancellation = cancellation
        self._executor = executor

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

    def works(self, seconds: float) -> dict[str, Any]:
        """What all works on views are told, those that take `seconds` for a megapixel."""
        camera = self.scene.typical_camera
        pixels = camera.width * camera.height
        cost = Cost(seconds=seconds * pixels / 1e6, bytes=_BYTES * pixels)
        return {"root": self.results.workspace.root, "options": self.options, "cost": cost}

    def perform(
        self, label: str, work: Work[Result], names: Sequence[str], *, part: int = 0, parts: int = 1
    ) -> list[Result]:
        """What `work` hands back, in the order of `names`. Of `parts` that go over all names this
        is one; they share a bar."""

        def report(done: float) -> None:
            self._progress.step(label, (part * len(names) + done) / parts, len(names))

        watch = Watch(cancellation=self._cancellation, progress=report)
        with errors_by_photo(self.results.workspace):
            found = perform(self._executor, work, names, watch)
        return [found[name] for name in names]

    def agreed(self, name: str) -> DepthMap:
        """The depth that a view and others agree on; what its mask and the options leave out is
        unknown. Raises `InputError` when there is none."""
        self._cancellation.check()
        return self._depth.agreed(name)

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
    from refdepth.io.colmap import start_dense_workspace

    names = source.names
    start_dense_workspace(folder, source.scene, model_dir=source.results.model_dir, names=names)
    work = DenseViews(folder=folder, with_depth=frozenset(names), **source.works(_DENSE_SECONDS))
    source.perform("depth and normal maps", work, source.scene.names)
    return f"dense workspace, {len(names)} views"


def _nerfstudio(source: Source, folder: Path) -> str:
    from refdepth.io.nerfstudio import write_transforms

    names, label = source.names, "depth images"
    unit = _unit(source, label)
    work = Frames(folder=folder, unit=unit, **source.works(_FRAME_SECONDS))
    frames = source.perform(label, work, names, part=1, parts=2)
    write_transforms(
        folder,
        frames,
        unit=unit,
        cloud=source.cloud() if source.results.cloud_path.is_file() else None,
        metres_per_unit=metres_per_unit(source.results),
    )
    return f"{len(names)} views; train with --depth-unit-scale-factor {unit:.9g}"


def _depth(source: Source, folder: Path) -> str:
    from refdepth.io.depth_sets import write_depth_index

    names, label, kinds = source.names, "depth maps", source.options.depth_files
    unit = _unit(source, label)
    seconds = _READ_SECONDS + sum(_KIND_SECONDS[kind] for kind in kinds)
    work = DepthFiles(folder=folder, unit=unit, **source.works(seconds))
    rows = source.perform(label, work, names, part=1, parts=2)
    write_depth_index(
        folder,
        dict(zip(names, rows, strict=True)),
        unit=unit,
        metres_per_unit=metres_per_unit(source.results),
    )
    return f"{len(names)} views as {', '.join(kinds)}"


def _unit(source: Source, label: str) -> float:
    """SfM units of a level of 16-bit pictures of all views; the first of two parts."""
    from refdepth.io.depth_sets import png_unit

    work = Farthest(**source.works(_READ_SECONDS))
    return png_unit(source.perform(label, work, source.names, part=0, parts=2))


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
