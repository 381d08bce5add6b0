"""A prior without a network: plane sweep over the neighbours, gaps filled from what is sure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdepth.arrays import Array, fetch_all, median_of, namespace, put_like
from refdepth.geometry.grid import WorkGrid
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import closest_views, select_sources
from refdepth.matching.settings import MatchSettings, PropagationSettings
from refdepth.settings import Settings, setting
from refdepth.types.camera import transform
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, SparseDepth, View

if TYPE_CHECKING:
    import torch

    from refdepth.geometry.working_view import WorkingView

Map = NDArray[np.float32]
ENOUGH_POINTS = 20
"""With fewer points of its own, a view takes its depth range from all points in its picture."""
LEAST_ANCHOR = 1e-4
"""Weight of the points' mean depth where nothing else is known."""


class SweepSettings(Settings):
    """Plane sweep without any other prior."""

    sources: int = setting(8, "How many neighbours are compared", ge=1)
    close_sources: int = setting(
        3, "How many of the closest other views are compared as well, for near things", ge=0
    )
    planes: int = setting(128, "How many depths are tried", ge=8)
    working_pixels: int = setting(
        300_000, "The sweep runs on the photo reduced to at most so many pixels", unit="px", ge=1024
    )
    least_reduction: int = setting(
        2, "The sweep never runs on a finer grid than this", unit="px", ge=1
    )
    margin: float = setting(
        1.1, "How far the tried depths reach behind the SfM points, as a factor", ge=1
    )
    near_margin: float = setting(
        4.0, "How far they reach in front of them: near, plain things carry no points", ge=1
    )
    match: MatchSettings = setting(MatchSettings(best_sources=2), "How windows are compared")
    fill: PropagationSettings = setting(
        PropagationSettings(smoothness=2.0, image_edge=20.0, depth_edge=0.0, outlier=0.1, rounds=4),
        "How inverse depth, as a share of its median, spreads from sure to unsure pixels",
    )

    @property
    def grid(self) -> dict[str, int]:
        """The limits of the working grid, as `WorkingView` takes them."""
        return {"max_pixels": self.working_pixels, "least_factor": self.least_reduction}


class SweepPrior:
    """Depth from the photos and the SfM points alone; needs no weights."""

    def __init__(
        self,
        settings: SweepSettings | None = None,
        views: Callable[[View], WorkingView] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`views` gives views on their working grids (`SweepSettings.grid`), for those who keep
        them; by default every sweep reads the photos it needs. With a `device` it is computed there
        in tensor operations, else by compiled loops on the CPU."""
        self.settings = settings or SweepSettings()
        self._views = views or self._read
        self._device = device

    @property
    def identity(self) -> Mapping[str, str]:
        """The source's name, how it is filled, and its settings."""
        fields = json.dumps(self.settings.result_fields(), sort_keys=True)
        return {"source": "sweep", "fill": "twicing", "settings": fields}

    def estimate(self, view: View, scene: Scene) -> Prior:
        """Depth in SfM units on the working grid, between the bounds that the scene's points allow,
        with a confidence in [0, 1] that is low where it was filled. NaN everywhere for a view that
        sees no point and shares nothing with any other."""
        sparse = scene.sparse_depth(view, min_track_length=3)
        bounds = depth_bounds(
            view,
            scene,
            sparse,
            near_margin=self.settings.near_margin,
            far_margin=self.settings.margin,
        )
        names = self._sources(view, scene)
        if bounds is None:
            unknown = np.full(view.camera.shape, np.nan, np.float32)
            return Prior(values=unknown, kind=PriorKind.METRIC, confidence=np.zeros_like(unknown))
        depth, confidence = self._sweep(view, [scene[name] for name in names], sparse, bounds)
        factor = WorkGrid.for_photo(view.camera, **self.settings.grid).factor
        return Prior(
            values=depth, kind=PriorKind.METRIC, confidence=confidence, step=(factor, factor)
        )

    def _read(self, view: View) -> WorkingView:
        from refdepth.geometry.working_view import WorkingView

        return WorkingView.loaded(partial(load_photo, view), **self.settings.grid)

    def _sources(self, view: View, scene: Scene) -> list[str]:
        """The views best placed for the SfM points, and the closest of the others."""
        chosen = select_sources(scene, view, self.settings.sources)
        return [*chosen, *closest_views(scene, view, self.settings.close_sources, chosen)]

    def _sweep(
        self,
        view: View,
        sources: list[View],
        sparse: SparseDepth,
        bounds: tuple[float, float],
    ) -> tuple[Map, Map]:
        from refdepth.matching.plane_sweep import sweep_planes

        settings = self.settings
        ref, *others = (self._views(one).on(self._device) for one in (view, *sources))
        near, far = bounds
        xp = namespace(ref.gray)
        if sources:
            found = sweep_planes(ref, others, bounds, settings.planes, settings.match)
            swept, confidence = xp.exp(-found.log_depth), found.confidence
        else:
            swept = xp.full_like(ref.gray, 1 / np.sqrt(near * far))
            confidence = xp.zeros_like(swept)
        filled = self._fill(ref, swept, confidence, sparse, bounds)
        depth, confidence = fetch_all(1 / filled, confidence)
        return depth.astype(np.float32), confidence

    def _fill(
        self,
        ref: WorkingView,
        swept: Array,
        confidence: Array,
        sparse: SparseDepth,
        bounds: tuple[float, float],
    ) -> Array:
        """Inverse depth (H, W, working grid) spread from SfM points and sure pixels along even
        ground, slopes among them, between the bounds."""
        from refdepth.matching.propagation import SURE_POWER, propagate
        from refdepth.matching.search import edge_links

        fill, xp = self.settings.fill, namespace(swept)
        unit = float(np.median(1 / sparse.depth)) if len(sparse) else median_of(swept, swept > 0)
        points, weights = np.zeros((2, *swept.shape), np.float32)
        y, x = ref.grid.cells(sparse.xy)
        points[y, x] = 1 / sparse.depth
        weights[y, x] = fill.sparse_weight
        points, weights = put_like(points, swept), put_like(weights, swept)
        links = edge_links(
            ref.gray, swept, image_edge=fill.image_edge, depth_edge=fill.depth_edge, floor=0.02
        )
        change = propagate(
            xp.astype(xp.stack([swept, points]) / unit - 1, xp.float32),
            xp.stack([confidence**SURE_POWER, weights]),
            *links,
            smoothness=fill.smoothness,
            outlier=fill.outlier,
            anchor=LEAST_ANCHOR,
            rounds=fill.rounds,
            twicing=True,
        )
        filled = xp.clip(unit * (1 + change), 1 / bounds[1], 1 / bounds[0])
        return xp.astype(filled, xp.float32)


def depth_bounds(
    view: View, scene: Scene, sparse: SparseDepth, *, near_margin: float, far_margin: float
) -> tuple[float, float] | None:
    """Nearest and farthest depth worth trying: the range of the points that the view observes, or,
    where these are few, of all that fall into its picture, widened by factors. None without."""
    depth = sparse.depth
    if len(depth) < ENOUGH_POINTS:
        points = transform(view.cam_from_world, scene.points.xyz)
        xy, z = view.camera.project(points)
        depth = np.concatenate([depth, z[view.camera.contains(xy) & (z > 0)]])
    if not len(depth):
        return None
    near, far = np.quantile(depth, [0.005, 0.995])
    return float(near / near_margin), float(far * far_margin)
