"""Measuring how many metres a unit is: known distances, tags, GPS and metric depth held against
each other; the result goes to OUT/scale.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.io.images import read_rgb
from refdepth.metric.distances import measure_distance, scale_from_distances
from refdepth.metric.estimate import (
    Estimate,
    Measurement,
    Source,
    chosen,
    contradict,
    contradictions,
    joined,
)
from refdepth.metric.gps import LEAST_PHOTOS, GpsAlignment, align_gps
from refdepth.metric.lengths import parse_distance, parse_length
from refdepth.metric.tag_scale import scale_from_tags
from refdepth.metric.tags import DEFAULT_FAMILY, Sighting, TagFinder
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.files import write_sealed
from refdepth.pipeline.metric import SCALE_NAME, MetricScale, frame_of, made_from
from refdepth.pipeline.performing import perform
from refdepth.pipeline.photo_places import PhotoPlaces
from refdepth.pipeline.progress import Progress, Silent
from refdepth.pipeline.results import Results
from refdepth.pipeline.stages.reading import IMAGES
from refdepth.pipeline.views import errors_by_photo
from refdepth.pipeline.work import Cost, Desk, Watch
from refdepth.pipeline.workspace import Workspace

_STEP = "metres"
"""What the measuring is called where stages are told of."""
_TAG_SECONDS, _TAG_BYTES = 0.2, 12
"""Of a core for a megapixel, and memory for a pixel."""
_NETWORK_ERROR, _MAPS_ERROR = 0.1, 0.02
"""Relative, of the mean scale of metric networks and of given metric maps (sensors)."""


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """What is to say how long a unit is, as the command line has it. Raises `ConfigurationError`
    for what cannot be understood."""

    distances: tuple[str, ...] = ()
    """`PHOTO:X,Y PHOTO:X,Y LENGTH`, see `parse_distance`."""
    tag_size: str | None = None
    """Side of the tags' black square, with its unit."""
    tag_family: str = DEFAULT_FAMILY
    gps: bool | None = None
    """Whether GPS positions count; None: where there are enough."""

    def __post_init__(self) -> None:
        for text in self.distances:
            parse_distance(text)
        if self.tag_size is not None:
            parse_length(self.tag_size, "--tag-size")
            TagFinder(self.tag_family)

    @property
    def wanted(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.distances or self.tag_size or self.gps)

    @property
    def arguments(self) -> list[str]:
        """The same on a command line."""
        out = [part for text in self.distances for part in ("--distance", text)]
        if self.tag_size is not None:
            out += ["--tag-size", self.tag_size]
            out += ["--tag-family", self.tag_family] * (self.tag_family != DEFAULT_FAMILY)
        if self.gps is not None:
            out.append("--gps" if self.gps else "--no-gps")
        return out


def measure_scale(
    workspace: Workspace,
    options: ScaleOptions,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> dict[str, Any]:
    """Measures the scale by all that is asked for and there, writes OUT/scale.json and returns what
    it holds.

    Raises `InputError` where a source that was asked for says nothing, or none is there.
    """
    started, told = time.monotonic(), progress or Silent()
    told.stage_started(_STEP, "how long a unit is, and where up is")
    results = Results(workspace)
    photos = PhotoPlaces(results)
    estimates: list[Estimate] = []
    notes: list[str] = []
    if options.distances:
        known = [parse_distance(text) for text in options.distances]
        estimates.append(
            scale_from_distances(
                [measure_distance(k, photos.place(k.first), photos.place(k.second)) for k in known]
            )
        )
    if options.tag_size is not None:
        work = TagsSeen(root=workspace.root, family=options.tag_family, cost=_tag_cost(results))
        watch = Watch(
            cancellation=cancellation or Cancellation(),
            progress=lambda done: told.step("tags", done, len(results.scene.names)),
        )
        with errors_by_photo(workspace):
            seen = perform(executor or SerialExecutor(), work, results.scene.names, watch)
        sightings = [s for name in results.scene.names for s in seen[name]]
        size_m = parse_length(options.tag_size, "--tag-size")
        estimates.append(scale_from_tags(results.scene, sightings, size_m, photos.points))
    alignment = _gps(photos, options.gps, notes)
    if alignment is not None:
        estimates.append(alignment.estimate)
    depth = _metric_depth(results)
    if depth is not None:
        estimates.append(depth)
    if not estimates:
        raise InputError(
            "; ".join(["nothing says how long a unit is", *notes]) + ".",
            subject=workspace.root,
            action="Give --distance or --tag-size, photos with GPS positions, or metric depth.",
        )
    metres, error, used = chosen(estimates)
    warnings = [*contradictions(estimates), *notes]
    if alignment is not None and contradict(alignment.estimate, metres, error):
        warnings.append("since GPS contradicts, up and the place on Earth are not taken from it")
        alignment = None
    frame, up = frame_of(results, metres, alignment)
    found = {
        "metres_per_unit": metres,
        "relative_error": error,
        "used": [source.value for source in used],
        "sources": [estimate.to_dict() for estimate in estimates],
        "warnings": warnings,
        "metric_from_world": frame.matrix.tolist(),
        "up": up,
        "origin": None,
        "asked": options.arguments,
        "made_from": made_from(results),
    }
    if alignment is not None:
        found["GPS"] = {
            "median_residual_m": alignment.residual_m,
            "tilt_error_deg": alignment.tilt_error_deg,
            "residuals_m": {results.names.own(n): d for n, d in alignment.residuals_m.items()},
        }
        if alignment.rotation is not None:
            found["origin"] = vars(alignment.origin)
    write_sealed(workspace.root / SCALE_NAME, found)
    headline = MetricScale(content=found, stale=False).headline
    told.stage_finished(_STEP, time.monotonic() - started, headline)
    return found


@dataclass(frozen=True, kw_only=True)
class TagsSeen:
    """The tags in a view's photo, in undistorted pixels."""

    root: Path
    """The workspace."""
    family: str
    cost: Cost

    def open(self, desk: Desk) -> Callable[[str], list[Sighting]]:
        """Loads the scene."""
        workspace = Workspace(self.root)
        photos, finder = PhotoPlaces(Results(workspace)), TagFinder(self.family)
        folder = workspace.stage_dir("prepare") / IMAGES

        def find(name: str) -> list[Sighting]:
            seen = finder.find(read_rgb(folder / name), name)
            moved = [
                Sighting(tag=s.tag, view=name, corners=photos.undistorted(name, s.corners))
                for s in seen
            ]
            return [s for s in moved if np.isfinite(s.corners).all()]

        return find


def _gps(photos: PhotoPlaces, asked: bool | None, notes: list[str]) -> GpsAlignment | None:
    """The cameras on Earth; None where GPS is not wanted or, unless `asked`, cannot say: then it is
    noted why."""
    if asked is False:
        return None
    scene = photos.results.scene
    # The faces of a panorama have one position between them, which counts once.
    stations = {photos.rows[name].given: name for name in scene.names if name in photos.rows}
    positions = {
        name: position
        for name in stations.values()
        if (position := photos.rows[name].position) is not None
    }
    if asked is None and len(positions) < LEAST_PHOTOS:
        return None
    try:
        return align_gps({view.name: view.center for view in scene.views}, positions)
    except InputError as error:
        if asked:
            raise
        notes.append(f"GPS is not used: {error.message.rstrip('.')}")
        return None


def _metric_depth(results: Results) -> Estimate | None:
    """What the scale stage found for a prior in metres."""
    manifest, depth = results.manifest("scale"), results.manifest("depth")
    value = manifest.summary.get("metres_per_unit") if manifest else None
    if not isinstance(value, int | float) or not value > 0:
        return None
    maps = depth is not None and depth.inputs.get("prior") == "maps"
    measured = Measurement(
        what="the given maps" if maps else "the depth network",
        metres_per_unit=float(value),
        relative_error=_MAPS_ERROR if maps else _NETWORK_ERROR,
    )
    return joined(Source.DEPTH, [measured])


def _tag_cost(results: Results) -> Cost:
    camera = results.scene.typical_camera
    pixels = camera.width * camera.height
    return Cost(seconds=_TAG_SECONDS * pixels / 1e6, bytes=_TAG_BYTES * pixels)
