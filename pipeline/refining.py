"""What a task of stage `refine` does: one round of one view, made from the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from refdepth.matching.neighbours import closest_views
from refdepth.pipeline.calibration import DEPTH, SECOND, hash_array, is_refined, second_item
from refdepth.pipeline.compact import compact, packed
from refdepth.pipeline.engines import Engine
from refdepth.pipeline.files import read_arrays, write_arrays
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import Brief
from refdepth.pipeline.stages.depth import load_normals
from refdepth.pipeline.stages.scale import load_scaled
from refdepth.pipeline.upsampling import open_upsampler
from refdepth.pipeline.views import WorkingViews, load_scene
from refdepth.pipeline.work import Cost, Desk
from refdepth.types.depth_map import DepthMap

if TYPE_CHECKING:
    import torch

    from refdepth.geometry.working_view import WorkingView
    from refdepth.refine.refined_view import RefinedView
    from refdepth.render import Renderer

FIRST = "first"
CHECKPOINTS = "checkpoints"


class FileCheckpoint:
    """A refinement's state in one file, tied to the fingerprint it belongs to."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def load(self) -> dict[str, NDArray[Any]] | None:
        """The saved state; None when there is none for the present inputs."""
        try:
            state = read_arrays(self._path)
        except (OSError, ValueError):
            return None
        if str(state.pop("fingerprint", "")) != self._fingerprint:
            return None
        return state

    def save(self, state: dict[str, NDArray[Any]]) -> None:
        """Replaces the saved state."""
        self._path.parent.mkdir(exist_ok=True)
        write_arrays(self._path, {**state, "fingerprint": np.array(self._fingerprint)})

    def discard(self) -> None:
        """Forgets the state."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class FirstRounds:
    """The first round of a view, from photos alone."""

    brief: Brief
    cost: Cost
    sources: Mapping[str, tuple[str, ...]]
    """The neighbours each view is matched against, best first."""
    errors: Mapping[str, float]
    """How far off each view's scaled prior is taken to be, in log depth."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        from refdepth.refine.rounds import first_round

        table = _Table(self.brief, desk)
        engine = Engine(self.brief.config)

        def make(name: str) -> None:
            if table.first.is_done(name):
                return
            close = table.close(name, self.sources[name], self.errors[name])
            inputs = table.inputs(name, self.sources[name], self.errors[name])

            def work(*, renderer: Renderer | None, device: torch.device | None) -> RefinedView:
                return first_round(**inputs, close=close, device=device)

            found, made_on = engine.run(name, work)
            table.first.write(name, packed(**vars(found.depth_map)), {**found.record, **made_on})

        return make


@dataclass(frozen=True, kw_only=True)
class SecondRounds:
    """The final depth of a view, from photos and from what the first round found in neighbours."""

    brief: Brief
    cost: Cost
    sources: Mapping[str, tuple[str, ...]]
    """The neighbours each view is refined against, best first."""
    onlookers: Mapping[str, tuple[str, ...]]
    """The views whose first round has a say in that of each view besides."""
    errors: Mapping[str, float]
    """How far off each view's scaled prior is taken to be, in log depth."""

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene and gets a renderer, and the network that adds detail where one does."""
        from refdepth.refine.rounds import second_round

        table = _Table(self.brief, desk)
        engine = Engine(self.brief.config, renders=True)
        upsampler = open_upsampler(self.brief.request, self.brief.inputs)

        def refined(name: str, checkpoint: FileCheckpoint) -> tuple[RefinedView, dict[str, Any]]:
            inputs = table.inputs(name, self.sources[name], self.errors[name])
            onlookers = table.views(self.onlookers[name])

            def work(*, renderer: Renderer | None, device: torch.device | None) -> RefinedView:
                if upsampler is not None:
                    upsampler.device = "cpu" if device is None else device.type
                return second_round(
                    **inputs,
                    upsampler=upsampler,
                    first=table.first_depth(name),
                    source_depths=_FirstDepths(table, self.sources[name]),
                    onlookers=onlookers,
                    onlooker_depths=_FirstDepths(table, self.onlookers[name]),
                    renderer=renderer,
                    device=device,
                    checkpoint=checkpoint,
                    progress=lambda done, steps: desk.step(done / steps),
                )

            return engine.run(name, work)

        def make(name: str) -> None:
            checkpoint = FileCheckpoint(
                self.brief.folder / CHECKPOINTS / f"{name}.npz", self.brief.item_fingerprint
            )
            if not is_refined(table.second, table.final, name):
                table.write_second(name, *refined(name, checkpoint))
            checkpoint.discard()

        return make


class _Table:
    """A scene as the rounds need it, view by view."""

    def __init__(self, brief: Brief, desk: Desk) -> None:
        from refdepth.refine.judges import Judges

        self.settings = brief.config.refine
        self.first = brief.items(FIRST)
        self.second = brief.items(SECOND)
        self.final = brief.items()
        self._seed = brief.config.runtime.seed
        self._workspace = brief.workspace
        self._scene = load_scene(brief.workspace)
        self._priors = ItemStore(brief.workspace.stage_dir("depth"), "")
        self._judges = Judges(self._scene, self.settings.judging_points)
        self._views = desk.keep(
            ("views", brief.root, brief.inputs.get("sfm"), *self.settings.grid.items()),
            lambda: WorkingViews(self._scene, max_bytes=desk.cache_bytes, **self.settings.grid),
        )

    def inputs(self, name: str, sources: tuple[str, ...], error: float) -> dict[str, Any]:
        """What both rounds are made from."""
        return {
            "ref": self._views[name],
            "sources": self.views(sources),
            "scaled": load_scaled(self._workspace, self._scene[name], sky=np.inf),
            "sparse": self._judges.given(self._scene[name]),
            "settings": self.settings,
            "seed": self._seed,
            "prior_error": error,
            "normals": load_normals(self._priors, name, self._views[name].grid),
        }

    def views(self, names: Iterable[str]) -> tuple[WorkingView, ...]:
        """Views on their working grids."""
        return tuple(self._views[name] for name in names)

    def close(self, name: str, sources: tuple[str, ...], error: float) -> list[WorkingView]:
        """The closest other views, where the prior is `error` off and that is far."""
        wide = self.settings.wide
        if error <= wide.from_error:
            return []
        names = closest_views(self._scene, self._scene[name], wide.close_sources, sources)
        return list(self.views(names))

    def write_second(self, name: str, found: RefinedView, made_on: Mapping[str, Any]) -> None:
        """Stores the final depth of a view, and what it says about the scene's confidence."""
        judges = self._judges.of(self._scene[name])
        arrays = compact(found.depth_map)
        self.final.write(name, arrays, {**found.record, **made_on})
        evidence, record = second_item(found, self._views[name].grid, judges)
        self.second.write(name, evidence, {**record, DEPTH: hash_array(arrays["depth"])})

    def first_depth(self, name: str) -> DepthMap:
        """What the first round found."""
        arrays = self.first.arrays(name)
        return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


class _FirstDepths(Sequence[DepthMap]):
    """What first rounds found in views, read when it is asked for: of many neighbours it is much to
    keep."""

    def __init__(self, table: _Table, names: Sequence[str]) -> None:
        self._table, self._names = table, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> DepthMap: ...
    @overload
    def __getitem__(self, index: slice) -> _FirstDepths: ...
    def __getitem__(self, index: int | slice) -> DepthMap | _FirstDepths:
        if isinstance(index, slice):
            return _FirstDepths(self._table, self._names[index])
        return self._table.first_depth(self._names[index])
