"""Reading what a run left: one door for evaluation, exports, report and viewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid, by_strips, log_ratio
from refdepth.ingest import NameTable
from refdepth.io.ply import read_ply, read_ply_pieces, sample_ply
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.manifest import MANIFEST_NAME, Manifest
from refdepth.pipeline.spare import SPARES
from refdepth.pipeline.stages.depth import load_prior
from refdepth.pipeline.stages.scale import load_scaled
from refdepth.pipeline.views import UNDISTORTED, load_scene, photo_names
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.resolution import in_photo
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

Depth = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A manifest that has been read."""

    state: tuple[int, int, int]
    """Of its file."""
    manifest: Manifest | None
    """Without its files."""
    files: frozenset[str]
    """Their paths, relative to the stage's folder."""

    @classmethod
    def of(cls, folder: Path, state: tuple[int, int, int]) -> _Read:
        """What the manifest in `folder` says."""
        found = Manifest.read(folder)
        if found is None:
            return cls(state=state, manifest=None, files=frozenset())
        return cls(state=state, manifest=found.without_files, files=frozenset(found.files))


class Results:
    """Artifacts of one workspace, read when asked for. Nothing is checked against the present
    configuration: this is what lies there."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._views: dict[str, dict[str, None]] = {}
        self._manifests: dict[str, _Read] = {}

    @cached_property
    def scene(self) -> Scene:
        """The undistorted scene. Raises `InputError` when the sfm stage has not run."""
        if self.manifest("sfm") is None:
            raise InputError(
                "holds no finished structure from motion.",
                subject=self.workspace.root,
                action="Run `refdepth reconstruct` first.",
            )
        return load_scene(self.workspace)

    @cached_property
    def names(self) -> NameTable:
        """The photos' own names by view; the views' names where the table of photos is gone."""
        found = photo_names(self.workspace)
        return found if len(found) else NameTable.plain(self.scene.names)

    @property
    def model_dir(self) -> Path:
        """The undistorted COLMAP model."""
        return self.workspace.root / UNDISTORTED / "sparse"

    def manifest(self, stage: str) -> Manifest | None:
        """A stage's manifest without its files; None when the stage is not whole. It is read again
        only where it has been written again."""
        known = self._read(stage)
        return None if known is None else known.manifest

    def _read(self, stage: str) -> _Read | None:
        folder = self.workspace.stage_dir(stage)
        try:
            found = (folder / MANIFEST_NAME).stat()
        except OSError:
            return None
        state = found.st_ino, found.st_mtime_ns, found.st_size
        known = self._manifests.get(stage)
        if known is None or known.state != state:
            known = self._manifests[stage] = _Read.of(folder, state)
        return known

    @property
    def dropped(self) -> tuple[str, ...]:
        """Kinds of files that `refdepth clean` has removed (see `spare`)."""
        found = [self.manifest(stage) for stage in dict.fromkeys(s.stage for s in SPARES)]
        return tuple(kind for manifest in found if manifest for kind in manifest.dropped)

    def views(self, stage: str) -> tuple[str, ...]:
        """Views of the scene that `stage` (depth, scale, refine, refine/first, fuse) has a result
        for: those in its manifest where it is whole, so that what an earlier selection of views
        has left does not count."""
        return tuple(self._with_result(stage))

    def _with_result(self, stage: str) -> dict[str, None]:
        """The same, in order and quick to ask."""
        if stage not in self._views:
            items, whole = self._items(stage), stage.partition("/")[0]
            folder, read = self.workspace.root / whole, self._read(whole)
            listed = None if read is None or read.manifest is None else read.files
            self._views[stage] = {
                name: None
                for name in self.scene.names
                if (path := items.arrays_path(name)).is_file()
                and (listed is None or path.relative_to(folder).as_posix() in listed)
            }
            if stage == "scale":  # what it makes of priors are records; depth takes both
                fitted = {name for name in self.scene.names if items.record_path(name).is_file()}
                self._views[stage] = {n: None for n in self._with_result("depth") if n in fitted}
        return self._views[stage]

    def prior(self, name: str) -> NDArray[np.float32]:
        """The prior's values in the photo's grid (height, width); NaN where it says nothing."""
        prior = load_prior(self._items("depth"), name)
        return in_photo(prior, self.scene[name].camera.shape).values

    def scaled(self, name: str) -> Depth:
        """Depth after the scale fit (height, width); 0 where unknown."""
        return load_scaled(self.workspace, self.scene[name])

    def first_round(self, name: str) -> DepthMap:
        """Depth and confidence after the first round of refinement, in the photo's grid: the scaled
        prior moved by what the round found on the working grid."""
        items = self._items("refine/first")
        found, scaled = _depth_map(items.arrays(name)), self.scaled(name)
        factor = items.record(name).get("factor")
        if factor is None:
            raise InputError(
                "was made by an earlier version.",
                subject=items.arrays_path(name),
                action="Run `refdepth stage refine` again.",
            )
        grid = WorkGrid(photo=self.scene[name].camera, factor=factor)
        change = log_ratio(found.depth, grid.shrink_depth(scaled))
        return DepthMap(
            depth=by_strips(lambda a, b: a * np.exp(b), scaled, grid.grow(change)),
            confidence=grid.grow(found.confidence) * (scaled > 0),
        )

    def refined(self, name: str) -> DepthMap:
        """Final depth and confidence."""
        return _depth_map(self._items("refine").arrays(name))

    def fused(self, name: str) -> DepthMap:
        """The depth that this and other views agree on, and its confidence; unknown where no other
        view confirms the final depth. In the photo's grid: of a photo that was fused on a coarser
        one, the final depth moved as it was there."""
        agreed = _depth_map(self._items("fuse").arrays(name))
        camera = self.scene[name].camera
        factor = round(camera.width / agreed.depth.shape[1])
        if factor == 1:
            return agreed
        grid, refined = WorkGrid(photo=camera, factor=factor), self.refined(name).depth
        change = log_ratio(agreed.depth, grid.shrink_depth(refined))
        depth = by_strips(lambda a, b: a * np.exp(b), refined, grid.grow(change))
        sure = grid.repeat(agreed.confidence)
        return DepthMap(depth=depth, confidence=sure).within(
            grid.repeat(agreed.valid) & (depth > 0)
        )

    def consistent(self, name: str) -> NDArray[np.bool_] | None:
        """Where other views confirm the final depth (height, width); None before fusion."""
        return self.fused(name).valid if name in self._with_result("fuse") else None

    def fit(self, name: str) -> dict[str, Any]:
        """Diagnostics of a view's scale fit."""
        return self._items("scale").record(name)

    def record(self, name: str) -> dict[str, Any]:
        """Record of a view's refinement: losses, accepted share, flags, device; empty for a view
        that is not among those of the stage."""
        return self._items("refine").record(name) if name in self._with_result("refine") else {}

    def calibration(self) -> dict[str, Any]:
        """The scene's curve of confidence, and how it stands at the SfM points left out; empty
        before the stage `refine` is whole."""
        manifest = self.manifest("refine")
        found = manifest.summary.get("calibration") if manifest is not None else None
        return found if isinstance(found, dict) else {}

    def cloud(self, count: int | None = None) -> PointCloud:
        """The fused cloud, or a random sample of `count` points where it has more, which takes
        memory for these alone. Raises `InputError` when the fuse stage has not run."""
        path = self._found_cloud()
        return read_ply(path) if count is None else sample_ply(path, count)

    def cloud_pieces(self) -> Iterator[PointCloud]:
        """The fused cloud piece by piece, so that memory holds one."""
        return read_ply_pieces(self._found_cloud())

    def _found_cloud(self) -> Path:
        if not self.cloud_path.is_file():
            raise InputError(
                "holds no fused cloud yet.",
                subject=self.workspace.root,
                action="Run `refdepth reconstruct` (or `refdepth stage fuse`) first.",
            )
        return self.cloud_path

    @property
    def cloud_path(self) -> Path:
        """The fused cloud."""
        return self.workspace.stage_dir("fuse") / "cloud.ply"

    def _items(self, stage: str) -> ItemStore:
        return ItemStore(self.workspace.root / stage, "")


def _depth_map(arrays: dict[str, NDArray[Any]]) -> DepthMap:
    return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])
