"""The results as exports see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refdepth.errors import InputError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.export_options import ExportOptions
from refdepth.pipeline.export_views import KeptDepth
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
        return cloud if keep.all() else cloud.select(keep)

    def cloud_pieces(self) -> Iterator[PointCloud]:
        """The same, piece by piece, for clouds that do not fit into memory."""
        for piece in self.results.cloud_pieces():
            self._cancellation.check()
            yield piece.select(piece.confidence >= self.options.min_confidence)

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
