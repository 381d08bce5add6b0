"""The results as exports see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from refdepth.errors import InputError
from refdepth.metric.geodesy import Origin, Utm, geodetic_from_enu
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.export_options import ExportOptions
from refdepth.pipeline.export_views import KeptDepth
from refdepth.pipeline.metric import metres_per_unit, metric_frame, read_scale, up_of
from refdepth.pipeline.performing import perform
from refdepth.pipeline.progress import Progress
from refdepth.pipeline.results import Results
from refdepth.pipeline.views import errors_by_photo
from refdepth.pipeline.work import Cost, Result, Watch, Work
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap

_BYTES = 100
"""Memory for a pixel; most of it for normals and positions."""


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
        self._depth = KeptDepth(results, options)
        self.scene = self._depth.scene
        self._frame = metric_frame(results) if options.metres else None
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

    def works(self, seconds: float, cached: int = 0) -> dict[str, Any]:
        """What all works on views are told, those that take `seconds` for a megapixel and gain from
        `cached` bytes a pixel that are kept for the next."""
        camera = self.scene.typical_camera
        pixels = camera.width * camera.height
        cost = Cost(
            seconds=seconds * pixels / 1e6, bytes=_BYTES * pixels, cache_bytes=cached * pixels
        )
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
        return self._placed(cloud if keep.all() else cloud.select(keep))

    def cloud_pieces(self) -> Iterator[PointCloud]:
        """The same, piece by piece, for clouds that do not fit into memory."""
        for piece in self.results.cloud_pieces():
            self._cancellation.check()
            yield self._placed(piece.select(piece.confidence >= self.options.min_confidence))

    def _placed(self, cloud: PointCloud) -> PointCloud:
        return cloud if self._frame is None else self._frame.cloud(cloud)

    @property
    def metres_per_unit(self) -> float | None:
        """Metres in a unit of the export, where that is known."""
        return 1.0 if self.options.metres else metres_per_unit(self.results)

    @property
    def z_up(self) -> bool:
        """Whether z points up in the export; else the axes are the scene's own."""
        return self.options.metres and up_of(self.results) is not None

    @cached_property
    def utm(self) -> UtmClouds | None:
        """Where the export's world lies on the map; None where that is not known."""
        scale = read_scale(self.results) if self.options.metres else None
        if scale is None or scale.stale or scale.origin is None:
            return None
        zone = Utm.at(scale.origin)
        return None if zone is None else UtmClouds(zone=zone, origin=scale.origin)

    def step(self, label: str) -> Callable[[int, int], None]:
        """A progress callback."""

        def report(done: int, total: int) -> None:
            self._cancellation.check()
            self._progress.step(label, done, total)

        return report


@dataclass(frozen=True, kw_only=True)
class UtmClouds:
    """From east, north, up about an origin to UTM coordinates."""

    zone: Utm
    origin: Origin

    def cloud(self, cloud: PointCloud) -> PointCloud:
        """A cloud on the map, positions float64; its normals stay, which are east, north, up."""
        points = self.zone.project(geodetic_from_enu(cloud.points, self.origin))
        return replace(cloud, points=points)
