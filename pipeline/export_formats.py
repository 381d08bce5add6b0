"""What each export takes from the results and which writer makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from refdepth.io.depth_sets import DepthFile, DepthSense
from refdepth.pipeline import export_training
from refdepth.pipeline.export_options import CloudFile, ExportFormat
from refdepth.pipeline.export_source import Source
from refdepth.pipeline.export_views import DenseViews, DepthFiles, Farthest, Frames
from refdepth.types.cloud import PointCloud

SAMPLE_POINTS = 1_000_000
"""Of a cloud that is only to be looked at."""
_READ_SECONDS, _DENSE_SECONDS, _FRAME_SECONDS = 0.01, 0.4, 0.9
"""Of a core for a megapixel: to read a depth map, and to read and write what two formats have of a
view."""
_KIND_SECONDS = {
    DepthFile.PNG16: 0.45,
    DepthFile.TIFF32: 0.01,
    DepthFile.NPZ: 0.02,
    DepthFile.NPY: 0.01,
    DepthFile.EXR: 0.8,
    DepthFile.PICTURES: 0.04,
}
"""The same to write a kind of depth file."""


def write_format(format_: ExportFormat, source: Source, folder: Path) -> str:
    """Writes one export into the empty `folder`; returns what it is in half a line."""
    return _WRITERS[format_](source, folder)


def _colmap(source: Source, folder: Path) -> str:
    from refdepth.io.colmap import start_dense_workspace

    names = source.names
    start_dense_workspace(
        folder,
        source.scene,
        model_dir=None if source.options.metres else source.results.model_dir,
        names=names,
    )
    work = DenseViews(folder=folder, with_depth=frozenset(names), **source.works(_DENSE_SECONDS))
    source.perform("depth and normal maps", work, source.scene.names)
    return f"dense workspace, {len(names)} views"


def _nerfstudio(source: Source, folder: Path) -> str:
    from refdepth.io.nerfstudio import write_transforms

    names, label = source.names, "depth images"
    unit = _unit(source, label, DepthSense())
    work = Frames(folder=folder, unit=unit, **source.works(_FRAME_SECONDS))
    frames = source.perform(label, work, names, part=1, parts=2)
    write_transforms(
        folder,
        frames,
        unit=unit,
        cloud=source.cloud() if source.results.cloud_path.is_file() else None,
        metres_per_unit=source.metres_per_unit,
    )
    return f"{len(names)} views; train with --depth-unit-scale-factor {unit:.9g}"


def _depth(source: Source, folder: Path) -> str:
    from refdepth.io.depth_sets import write_depth_index
    from refdepth.io.exr import load_openexr

    names, label, options = source.names, "depth maps", source.options
    if DepthFile.EXR in options.depth_files:
        load_openexr()
    unit = _unit(source, label, options.sense)
    seconds = _READ_SECONDS + sum(_KIND_SECONDS[kind] for kind in options.depth_files)
    work = DepthFiles(folder=folder, unit=unit, **source.works(seconds))
    rows = source.perform(label, work, names, part=1, parts=2)
    write_depth_index(
        folder,
        dict(zip(names, rows, strict=True)),
        unit=unit,
        metres_per_unit=source.metres_per_unit,
        sense=options.sense,
    )
    return f"{len(names)} views as {', '.join(options.depth_files)}"


def _unit(source: Source, label: str, sense: DepthSense) -> float:
    """SfM units of a level of 16-bit pictures of all views; the first of two parts."""
    from refdepth.io.depth_sets import png_unit

    work = Farthest(sense=sense, **source.works(_READ_SECONDS))
    return png_unit(source.perform(label, work, source.names, part=0, parts=2))


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
    write_glb(folder / "mesh.glb", mesh, z_up=source.z_up)
    return f"{len(mesh.triangles):,} triangles"


def _cloud(source: Source, folder: Path) -> str:
    from refdepth.io.copc import write_copc
    from refdepth.io.e57 import write_e57
    from refdepth.io.las import write_las
    from refdepth.io.ply import count_ply, write_ply

    kinds, metres = source.options.cloud_files, source.metres_per_unit
    utm = source.utm
    wkt = None if utm is None else utm.zone.wkt
    count = 0

    def placed() -> Iterable[PointCloud]:
        pieces = source.cloud_pieces()
        return pieces if utm is None else map(utm.cloud, pieces)

    for kind in kinds:
        match kind:
            case CloudFile.PLY:
                about = f"unit: {source.options.unit}; metres_per_unit: {metres or 'unknown'}"
                count = write_ply(folder / "cloud.ply", source.cloud_pieces(), [about])
            case CloudFile.SAMPLE:
                pieces = _thinned(source.cloud_pieces(), count_ply(source.results.cloud_path))
                count = write_ply(folder / "cloud-sample.ply", pieces)
            case CloudFile.COPC:
                count = write_copc(folder / "cloud.copc.laz", placed(), wkt=wkt)
            case CloudFile.E57:
                cloud = source.cloud()
                count = len(cloud)
                write_e57(folder / "cloud.e57", cloud, metres_per_unit=metres)
            case CloudFile.LAS | CloudFile.LAZ:
                count = write_las(folder / f"cloud.{kind}", placed, wkt=wkt)
    return f"{count:,} points as {', '.join(kinds)}"


def _thinned(pieces: Iterable[PointCloud], count: int) -> Iterator[PointCloud]:
    """About `SAMPLE_POINTS` of a cloud of `count` points, the same each time."""
    rng = np.random.default_rng(0)
    for piece in pieces:
        yield piece.select(rng.random(len(piece)) * count < SAMPLE_POINTS)


_WRITERS: dict[ExportFormat, Callable[[Source, Path], str]] = {
    ExportFormat.COLMAP: _colmap,
    ExportFormat.NERFSTUDIO: _nerfstudio,
    ExportFormat.DEPTH: _depth,
    ExportFormat.SPLAT: export_training.splat,
    ExportFormat.GRAPHDECO: export_training.graphdeco,
    ExportFormat.GSPLAT: export_training.gsplat,
    ExportFormat.OPENMVS: export_training.openmvs,
    ExportFormat.MESH: _mesh,
    ExportFormat.CLOUD: _cloud,
}
