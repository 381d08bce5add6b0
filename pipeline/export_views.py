"""What exports do view by view, as works: each writes the files of a view into the folder that is
to become the export, and hands back what the export's index says of the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from refdepth.errors import InputError, ResourceError
from refdepth.geometry.lens import InputPhoto
from refdepth.io.depth_sets import DepthSense
from refdepth.io.images import load_mask
from refdepth.pipeline.export_options import ExportOptions
from refdepth.pipeline.metric import metric_frame
from refdepth.pipeline.results import Results
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View


class KeptDepth:
    """Depth of a workspace's views; what their masks and the options leave out is unknown."""

    def __init__(self, results: Results, options: ExportOptions) -> None:
        self.results = results
        self._options = options
        self._frame = metric_frame(results) if options.metres else None

    @cached_property
    def scene(self) -> Scene:
        """The views, in the export's world."""
        scene = self.results.scene
        return scene if self._frame is None else self._frame.scene(scene)

    def __call__(self, name: str) -> DepthMap:
        """A view's refined depth, or the agreed one where the options say so."""
        if self._options.consistent:
            return self.agreed(name)
        return self._kept(name, self.results.refined(name))

    def agreed(self, name: str) -> DepthMap:
        """The depth that a view and others agree on. Raises `InputError` when there is none."""
        if name not in self._fused:
            raise InputError(
                f"has no depth of {name} that other views were asked to confirm.",
                subject=self.results.workspace.root,
                action="Run `refdepth stage fuse` first.",
            )
        return self._kept(name, self.results.fused(name))

    def _kept(self, name: str, found: DepthMap) -> DepthMap:
        keep = found.valid & (found.confidence >= self._options.min_confidence)
        mask = load_mask(self.scene[name])
        if mask is not None:
            keep &= mask
        kept = found.within(keep)
        return kept if self._frame is None else self._frame.depth(kept)

    @cached_property
    def _fused(self) -> frozenset[str]:
        return frozenset(self.results.views("fuse"))


@dataclass(frozen=True, kw_only=True)
class OfViews:
    """What the works have in common."""

    root: Path
    """The workspace."""
    options: ExportOptions
    cost: Cost

    def depth(self, desk: Desk) -> KeptDepth:
        """The depth of the views, in the process that works on them."""
        return KeptDepth(Results(Workspace(self.root)), self.options)

    def photos(self, sense: DepthSense) -> Callable[[View], InputPhoto | None]:
        """From a view to what it was undistorted from; to None where its own grid is asked for."""
        if not sense.original:
            return lambda view: None
        from refdepth.pipeline.views import input_photos

        workspace = Workspace(self.root)
        sparse = workspace.stage_dir("sfm") / "sparse"
        if not sparse.is_dir():
            raise InputError(
                "is gone, and with it the lens distortion of the original photos.",
                subject=sparse,
                action="Run `refdepth stage sfm` again, or leave out --grid original.",
            )
        return input_photos(workspace)


@dataclass(frozen=True, kw_only=True)
class Written(OfViews):
    """The same of works that write."""

    folder: Path
    """What is to become the export; it is there before the work begins."""

    def depth(self, desk: Desk) -> KeptDepth:
        """The same. Raises `ResourceError` where this process does not see the folder: what it
        wrote would be missing in the export."""
        if not self.folder.is_dir():
            raise ResourceError(
                "is not there for a process that is to write into it.",
                subject=self.folder.parent,
                action="Choose a folder that all machines see.",
            )
        return super().depth(desk)


@dataclass(frozen=True, kw_only=True)
class Farthest(OfViews):
    """The largest depth of a view, for a unit that fits all of them."""

    sense: DepthSense
    """What is written of the view."""

    def open(self, desk: Desk) -> Callable[[str], float]:
        """Loads the scene."""
        from refdepth.io.depth_sets import farthest

        depth, photo_of = self.depth(desk), self.photos(self.sense)
        return lambda name: farthest(
            depth.scene[name], depth(name), self.sense, photo_of(depth.scene[name])
        )


@dataclass(frozen=True, kw_only=True)
class DenseViews(Written):
    """A view's photo in a COLMAP dense workspace, and its depth and normal maps."""

    with_depth: frozenset[str]
    """The views that have depth."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.io.colmap import copy_image, write_dense_view

        depth = self.depth(desk)

        def write(name: str) -> None:
            view = depth.scene[name]
            copy_image(view, self.folder / "images")
            if name in self.with_depth:
                write_dense_view(self.folder, view, depth(name))

        return write


@dataclass(frozen=True, kw_only=True)
class Frames(Written):
    """A view's photo, mask, depth image, normals and weights for nerfstudio; hands back its
    entry."""

    unit: float
    """SfM units of one level."""

    def open(self, desk: Desk) -> Callable[[str], Mapping[str, Any]]:
        """Loads the scene."""
        from refdepth.io.nerfstudio import write_frame

        depth = self.depth(desk)
        return lambda name: write_frame(self.folder, depth.scene[name], depth(name), unit=self.unit)


@dataclass(frozen=True, kw_only=True)
class DepthFiles(Written):
    """A view's depth map in all kinds of files asked for; hands back its row."""

    unit: float
    """SfM units of one level."""

    def open(self, desk: Desk) -> Callable[[str], Mapping[str, Any]]:
        """Loads the scene."""
        from refdepth.io.depth_sets import write_depth_view

        sense = self.options.sense
        depth, photo_of = self.depth(desk), self.photos(sense)
        return lambda name: write_depth_view(
            self.folder,
            depth.scene[name],
            depth(name),
            kinds=self.options.depth_files,
            unit=self.unit,
            sense=sense,
            photo=photo_of(depth.scene[name]),
        )
