"""What exports for splat trainers and OpenMVS do view by view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from refdepth.pipeline.export_views import KeptDepth, OfViews, Written
from refdepth.pipeline.work import Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

if TYPE_CHECKING:
    from refdepth.fusion.tracks import TrackedPoints


@dataclass(frozen=True, kw_only=True)
class Nearest(OfViews):
    """The largest inverse depth of a view, for scales that a trainer takes together."""

    def open(self, desk: Desk) -> Callable[[str], float]:
        """Loads the scene."""
        from refdepth.io.graphdeco import largest_inverse

        depth = self.depth(desk)
        return lambda name: largest_inverse(depth(name))


@dataclass(frozen=True, kw_only=True)
class InverseDepths(Written):
    """A view's photo, mask, inverse depth and weights for graphdeco's trainer; hands back its
    scale, and which share of its pixels is unknown."""

    with_depth: frozenset[str]
    """The views that have depth; the trainer asks for a picture of the others, too."""
    top: float
    """The largest inverse depth of all views."""

    def open(self, desk: Desk) -> Callable[[str], tuple[float, float]]:
        """Loads the scene."""
        from refdepth.io.graphdeco import inverse_scale, largest_inverse, write_inverse_depth
        from refdepth.io.splat import copy_photo
        from refdepth.io.weights import write_weights

        depth = self.depth(desk)

        def write(name: str) -> tuple[float, float]:
            view = depth.scene[name]
            found = depth(name) if name in self.with_depth else nothing(view)
            copy_photo(view, self.folder)
            write_weights(self.folder, view, found)
            scale = inverse_scale(largest_inverse(found), self.top)
            return scale, write_inverse_depth(self.folder, name, found, scale)

        return write


@dataclass(frozen=True, kw_only=True)
class Tracks(Written):
    """A view's photo, mask and weights; hands back its pixels as points with tracks."""

    with_depth: frozenset[str]
    """The views that have depth."""

    def open(self, desk: Desk) -> Callable[[str], TrackedPoints | None]:
        """Loads the scene."""
        from refdepth.fusion import sources_of
        from refdepth.fusion.crosscheck import DepthCache
        from refdepth.fusion.tracks import track_pixels
        from refdepth.io.images import read_rgb
        from refdepth.io.splat import copy_photo
        from refdepth.io.weights import write_weights

        depth = self.depth(desk)
        known = _with_depth(depth, self.with_depth)
        load = DepthCache(depth, known, desk.cache_bytes / 2**20)
        settings = Workspace(self.root).request().config.fuse
        track = partial(track_pixels, max_depth_ratio=settings.max_depth_ratio)

        def write(name: str) -> TrackedPoints | None:
            view = depth.scene[name]
            copy_photo(view, self.folder)
            if name not in self.with_depth:
                write_weights(self.folder, view, nothing(view))
                return None
            write_weights(self.folder, view, load(name))
            sources = [(other, load(other.name)) for other in sources_of(view, known, settings)]
            return track(view, load(name), read_rgb(view.image_path), sources)

        return write


@dataclass(frozen=True, kw_only=True)
class OpenmvsViews(Written):
    """A view's photo, and its depth map as OpenMVS has it; hands back whether it has any depth."""

    with_depth: frozenset[str]
    """The views that have depth."""

    def open(self, desk: Desk) -> Callable[[str], bool]:
        """Loads the scene."""
        from refdepth.fusion import sources_of
        from refdepth.io.colmap import copy_image
        from refdepth.io.dmap import dmap_name, write_dmap

        depth = self.depth(desk)
        ids = {name: number for number, name in enumerate(depth.scene.names, start=1)}
        known = _with_depth(depth, self.with_depth)
        settings = Workspace(self.root).request().config.fuse

        def write(name: str) -> bool:
            view = depth.scene[name]
            copy_image(view, self.folder / "images")
            found = depth(name) if name in self.with_depth else nothing(view)
            if not found.valid.any():
                return False
            others = sources_of(view, known, settings)
            write_dmap(
                self.folder / dmap_name(ids[name]),
                view,
                found,
                image=f"images/{name}",
                image_ids=[ids[name], *(ids[other.name] for other in others)],
            )
            return True

        return write


def nothing(view: View) -> DepthMap:
    """A depth map that knows nothing."""
    zero = np.zeros(view.camera.shape, np.float32)
    return DepthMap(depth=zero, confidence=zero)


def _with_depth(depth: KeptDepth, names: frozenset[str]) -> Scene:
    """The views of `names` alone."""
    return Scene([view for view in depth.scene.views if view.name in names], depth.scene.points)
