"""Exports for trainers of Gaussian splats and for OpenMVS."""

from __future__ import annotations

from pathlib import Path

from refdepth.errors import InputError
from refdepth.pipeline.export_source import Source
from refdepth.pipeline.export_training_views import InverseDepths, Nearest, OpenmvsViews, Tracks

_READ_SECONDS, _VIEW_SECONDS = 0.01, 0.6
"""Of a core for a megapixel: to read a depth map, and to write what a format has of a view."""
_SOURCE_BYTES = 80
"""Memory for a pixel of a view's neighbours."""


def splat(source: Source, folder: Path) -> str:
    """Photos, cameras, SfM points and initial points."""
    from refdepth.io.splat import write_splat_dataset

    cloud, most = source.cloud(), source.options.initial_points
    write_splat_dataset(folder, source.scene, cloud, max_points=most)
    return f"{len(source.scene)} photos, {min(len(cloud), most):,} initial points"


def graphdeco(source: Source, folder: Path) -> str:
    """The same with inverse depth for graphdeco's trainer."""
    from refdepth.io.graphdeco import check_stems, write_depth_params
    from refdepth.io.splat import write_splat_model

    names, every = source.names, source.scene.names
    check_stems(every)
    cloud, most = source.cloud(), source.options.initial_points
    top = max(source.perform("scales", Nearest(**source.works(_READ_SECONDS)), names))
    if not top > 0:
        raise nothing_left(source)
    write_splat_model(folder, source.scene, cloud, max_points=most)
    work = InverseDepths(
        folder=folder, with_depth=frozenset(names), top=top, **source.works(_VIEW_SECONDS)
    )
    found = dict(zip(every, source.perform("inverse depth", work, every), strict=True))
    write_depth_params(folder, found)
    unknown = sum(share for _, share in found.values()) / len(found)
    return (
        f"{len(names)} views with depth; train with --depths depths;"
        f" {unknown:.1%} of the pixels unknown, which the trainer takes for infinitely far"
    )


def gsplat(source: Source, folder: Path) -> str:
    """A COLMAP model whose points are refined pixels with tracks, filled up with the cloud."""
    from refdepth.fusion.tracks import tracked_scene
    from refdepth.io.splat import write_splat_model

    names, every, most = source.names, source.scene.names, source.options.initial_points
    cloud = source.cloud()
    common = source.works(_VIEW_SECONDS, cached=_SOURCE_BYTES)
    work = Tracks(folder=folder, with_depth=frozenset(names), **common)
    found = zip(every, source.perform("tracks", work, every), strict=True)
    scene = tracked_scene(source.scene, {name: own for name, own in found if own is not None})
    if not len(scene.points):
        raise nothing_left(source)
    write_splat_model(folder, scene, cloud, max_points=most, together=True)
    fewest = min(len(scene[name].point_index) for name in names)
    filled = min(len(cloud), max(0, most - len(scene.points)))
    return (
        f"{len(scene.points):,} points with tracks, at least {fewest:,} in each of {len(names)}"
        f" views with depth, and {filled:,} more initial points"
    )


def openmvs(source: Source, folder: Path) -> str:
    """Photos, cameras and depth maps for OpenMVS."""
    from refdepth.io.colmap import to_reconstruction

    sparse = folder / "sparse"
    sparse.mkdir()
    to_reconstruction(source.scene).write_binary(str(sparse))
    every = source.scene.names
    work = OpenmvsViews(
        folder=folder, with_depth=frozenset(source.names), **source.works(_VIEW_SECONDS)
    )
    written = sum(source.perform("depth maps", work, every))
    if not written:
        raise nothing_left(source)
    return f"{written} depth maps of {len(every)} views"


def nothing_left(source: Source) -> InputError:
    """The error about options that leave no depth."""
    return InputError(
        "no view has any depth left to export.",
        subject=source.results.workspace.root,
        action="Lower --min-confidence, or leave out --consistent.",
    )
