"""What stage `refine` has to do: which views need which, where results lie, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from refdepth.geometry.grid import WorkGrid
from refdepth.matching.neighbours import onlookers, select_sources
from refdepth.pipeline.calibration import SECOND, is_refined
from refdepth.pipeline.config import RunConfig
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.refining import FIRST
from refdepth.pipeline.stage import StageContext
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.refine.settings import Method
from refdepth.types.scene import Scene

_FIRST_SECONDS, _SECOND_SECONDS = 4.0, 8.0
"""Of a core, for a megapixel of the working grid; whether workers are worth starting."""
_PHOTO_BYTES, _GRID_BYTES = 40, 1200
"""Memory of a task for each pixel of a photo and of its working grid."""
_CLOSER_SECONDS, _CLOSER_BYTES = 8.0, 12
"""Of a core, for a megapixel of the finer grid, and memory for each of its pixels and each photo:
what a closer look adds."""
_MOST_ONLOOKERS = 16
"""Views besides the neighbours that tell their depth, at most."""
_ONLOOKER_BYTES = 40
"""Memory that each takes for a pixel of the working grid."""
_CACHED_VIEWS = 24
"""Working views worth keeping between neighbouring views."""


class RefinePlan:
    """Which views need which, and where their results lie."""

    def __init__(self, context: StageContext, scene: Scene) -> None:
        self.scene = scene
        self.final = context.items()
        self.first = context.items(FIRST)
        self.second = context.items(SECOND)
        self.errors = _prior_errors(context.workspace, scene)
        """How far off each view's scaled prior is taken to be, in log depth."""
        self._config = context.config
        self._sources: dict[str, tuple[str, ...]] = {}
        self._onlookers: dict[str, tuple[str, ...]] = {}

    def sources(self, name: str) -> tuple[str, ...]:
        """The neighbours `name` is refined against, best first."""
        if name not in self._sources:
            self._sources[name] = select_sources(
                self.scene, self.scene[name], self._config.refine.sources
            )
        return self._sources[name]

    def onlookers(self, name: str) -> tuple[str, ...]:
        """The views beside those neighbours that only tell their depth; none beside the judge."""
        if name not in self._onlookers:
            from refdepth.refine.rounds import split_held_out

            sources, settings = self.sources(name), self._config.refine
            used, judge = split_held_out(len(sources), settings)
            self._onlookers[name] = onlookers(
                self.scene,
                self.scene[name],
                [sources[i] for i in used],
                [] if judge is None else [sources[judge]],
                0 if settings.method is Method.PAPER else _MOST_ONLOOKERS,
            )
        return self._onlookers[name]

    def with_sources(self, names: Iterable[str]) -> list[str]:
        """`names`, their neighbours and onlookers: the views whose first rounds they need."""
        needed = {name: (name, *self.sources(name), *self.onlookers(name)) for name in names}
        return sorted({other for others in needed.values() for other in others})

    def is_done(self, name: str) -> bool:
        """Whether both rounds of `name` are whole."""
        first = all(self.first.is_done(other) for other in self.with_sources([name]))
        return first and self.is_refined(name)

    def is_refined(self, name: str) -> bool:
        """Whether the second round of `name` is whole."""
        return is_refined(self.second, self.final, name)

    def first_cost(self, gpu: float) -> Cost:
        """Of the first round of a view of middling size."""
        return _cost(self.scene, self._config, _FIRST_SECONDS, gpu)

    def second_cost(self, gpu: float, names: Iterable[str]) -> Cost:
        """Of the second, where it is that of one of `names`."""
        cost = _cost(self.scene, self._config, _SECOND_SECONDS, gpu)
        most = max((len(self.onlookers(name)) for name in names), default=0)
        told = most * _ONLOOKER_BYTES * math.prod(_grid(self.scene, self._config).shape)
        cost = replace(cost, bytes=cost.bytes + told)
        return _with_closer(cost, self.scene, self._config)


def _prior_errors(workspace: Workspace, scene: Scene) -> dict[str, float]:
    """From how far the SfM points lie from the scale fits before these were bent."""
    from refdepth.refine.wide import ERROR_QUANTILE, prior_errors

    fits = ItemStore(workspace.stage_dir("scale"), "")

    def measured(name: str) -> float:
        quantiles = fits.record(name).get("left_out_before", {})
        return float(quantiles.get(f"{ERROR_QUANTILE:g}", np.nan))

    return prior_errors({name: measured(name) for name in scene.names})


def _grid(scene: Scene, config: RunConfig) -> WorkGrid:
    """The working grid of a view of middling size."""
    return WorkGrid.for_photo(scene.typical_camera, **config.refine.grid)


def _cost(scene: Scene, config: RunConfig, seconds: float, gpu: float) -> Cost:
    """Of a view of middling size."""
    camera = scene.typical_camera
    pixels, cells = camera.width * camera.height, math.prod(_grid(scene, config).shape)
    return Cost(
        seconds=seconds * cells / 1e6,
        bytes=_PHOTO_BYTES * pixels + _GRID_BYTES * cells,
        cache_bytes=_CACHED_VIEWS * 10 * cells,
        gpu=gpu,
    )


def _with_closer(cost: Cost, scene: Scene, config: RunConfig) -> Cost:
    """The same where such a view is looked at more closely."""
    camera, settings = scene.typical_camera, config.refine
    grid = WorkGrid.for_photo(camera, **settings.finer_grid)
    if grid.factor == _grid(scene, config).factor:
        return cost
    cells = grid.shape[0] * grid.shape[1]
    return replace(
        cost,
        seconds=cost.seconds + _CLOSER_SECONDS * cells / 1e6,
        bytes=cost.bytes + _CLOSER_BYTES * (1 + settings.sources) * cells,
        cache_bytes=cost.cache_bytes + _CACHED_VIEWS * 5 * cells,
    )
