"""Depth of every stage against true depth, and what its confidence is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.evaluation import metrics
from refdepth.evaluation.correspondence import Scale, scale_from_points, true_pixels
from refdepth.evaluation.ground_truth import GroundTruth, TrueDepth
from refdepth.evaluation.reliability import reliability
from refdepth.geometry.lens import InputPhoto
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

Array = NDArray[np.float64]
LoadDepth = Callable[[str], "DepthMap | NDArray[np.floating] | None"]
"""A view's depth after a stage (height, width), SfM units; None when there is none."""

CAPS_M = (4.0, 7.0, 10.0, 15.0)
DOUBTFUL_SPREAD = 0.2  # deviation of the SfM points beyond which truth and scene do not belong
DOUBTFUL_METRES = (0.05, 2000.0)  # median true depth outside of which the unit is doubted
CONFIDENCE_PIXELS = 50_000  # pixels a view gives to the sparsification curve


def evaluate_depth(
    scene: Scene,
    stages: Mapping[str, LoadDepth],
    truth: GroundTruth,
    *,
    scale: Scale | None = None,
    photos: Mapping[str, InputPhoto] | None = None,
    caps_m: Sequence[float] = CAPS_M,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Errors of every stage's depth, in the order of `stages`, as plain JSON values.

    Each true pixel is carried along its ray into the undistorted photo, where the depth is read;
    poses play no part. Without `scale` one scale for the scene is taken from the SfM points.
    `photos` gives the input photos' lenses by view, for truth that has no `K`. A view that has
    truth and no depth counts as all missing. Means are over views, which go by the names of their
    photos.

    Keys: `truth`, `scale`; `stages`: NAME: `mean` and `views`, each with `all`, `common` (pixels
    known in every stage), `edges` (near steps of the true depth) and, where metres are known,
    `cap_4m` and so on; `changes`: BEFORE -> AFTER: `mean` and `views` with the shares of pixels
    better, worse, gained and lost; `confidence`; `notes` on what was assumed and left out.

    Raises `InputError` when the truth fits no view or is empty, or a depth map has the wrong size.
    """
    if not stages:
        raise InputError("no depth is given to evaluate.", subject="stages")
    truth = truth.of(scene)
    if not any(truth.find(view.name) for view in scene.views):
        raise InputError(
            "has no file named like any of the views.",
            subject=truth.subject,
            action=f"Photos are named like {truth.own(scene.names[0])}.",
        )
    photos = photos or {}
    scale = scale_from_points(scene, truth, photos) if scale is None else scale
    report = _Report(list(stages), scale.value, truth.metres_per_unit, caps_m)
    for done, view in enumerate(scene.views):
        true = truth.load(view.name)
        if true is None:
            report.without_truth.append(truth.own(view.name))
        else:
            report.add(truth.own(view.name), view, true, photos.get(view.name), stages)
        if progress is not None:
            progress(done + 1, len(scene))
    return report.result(truth, scale)


class _Report:
    """Collects the views' figures."""

    def __init__(
        self, stages: list[str], scale: float, metres: float | None, caps_m: Sequence[float]
    ) -> None:
        self.metres = metres
        self.factor = scale * (metres or 1.0)
        self.caps_m = caps_m if metres else ()
        self.rows: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
        pairs = list(pairwise(stages))
        if len(stages) > 2:
            pairs.append((stages[0], stages[-1]))
        self.shifts: dict[tuple[str, str], dict[str, Any]] = {pair: {} for pair in pairs}
        self.trust: dict[str, list[tuple[Array, Array]]] = {stage: [] for stage in stages}
        self.without_truth: list[str] = []
        self.empty: list[str] = []
        self.missing: dict[str, list[str]] = {stage: [] for stage in stages}
        self.medians: list[float] = []

    def add(
        self,
        name: str,
        view: View,
        true: TrueDepth,
        photo: InputPhoto | None,
        stages: Mapping[str, LoadDepth],
    ) -> None:
        """The figures of one view, whose photo is called `name`."""
        seen = true_pixels(view, true, photo)
        if not seen.depth.size:
            self.empty.append(name)
            return
        z = seen.depth * (self.metres or 1.0)
        self.medians.append(float(np.median(z)))
        edges = metrics.edge_band(true.depth)[seen.at]
        estimates: dict[str, Array] = {}
        for stage, load in stages.items():
            depth, confidence = _read(load(view.name), view, name, stage)
            if depth is None:
                self.missing[stage].append(name)
                estimates[stage] = np.zeros(z.size)
                continue
            estimates[stage] = depth[seen.row, seen.column].astype(np.float64) * self.factor
            if confidence is not None:
                self._collect(stage, estimates[stage], z, confidence[seen.row, seen.column])
        common = np.logical_and.reduce([metrics.known(e) for e in estimates.values()])
        parts = {"all": np.ones(z.size, bool), "common": common, "edges": edges}
        parts |= {f"cap_{cap:g}m": z <= cap for cap in self.caps_m}
        for stage, estimate in estimates.items():
            self.rows[stage][name] = {
                part: metrics.depth_errors(
                    estimate[mask], z[mask], in_metres=self.metres is not None
                )
                for part, mask in parts.items()
            }
        for before, after in self.shifts:
            shift = metrics.changes(estimates[before], estimates[after], z)
            error = [self.rows[s][name]["common"]["abs_rel"] for s in (before, after)]
            shift["view_improved"] = float(error[1] < error[0])
            self.shifts[before, after][name] = shift

    def _collect(
        self, stage: str, estimate: Array, z: Array, confidence: NDArray[np.floating]
    ) -> None:
        ok = np.flatnonzero(metrics.known(estimate) & np.isfinite(confidence))
        ok = ok[:: max(1, ok.size // CONFIDENCE_PIXELS)]
        error = metrics.relative_error(estimate[ok], z[ok])
        self.trust[stage].append((error, confidence[ok].astype(np.float64)))

    def result(self, truth: GroundTruth, scale: Scale) -> dict[str, Any]:
        """Everything as plain JSON values."""
        if not any(self.rows.values()):
            raise InputError(
                "holds no known depth inside the photos.",
                subject=truth.subject,
                action="All values are zero, NaN or outside; check the files and their scale.",
            )
        return {
            "truth": {
                "kind": truth.kind,
                "views": len(self.medians),
                "in_metres": self.metres is not None,
            },
            "scale": {**vars(scale), "description": scale.describe()},
            "stages": {stage: _summary(views) for stage, views in self.rows.items()},
            "changes": {
                f"{before} -> {after}": {
                    "mean": metrics.mean_over_views(list(views.values())),
                    "views": views,
                }
                for (before, after), views in self.shifts.items()
            },
            "confidence": {stage: _worth(pairs) for stage, pairs in self.trust.items() if pairs},
            "notes": self._notes(scale),
        }

    def _notes(self, scale: Scale) -> list[str]:
        notes = []
        if self.metres is None:
            notes.append("The truth's unit is not known to be metres: no figures in cm.")
        else:
            median = float(np.median(self.medians))
            notes.append(f"The truth is taken as metres; its median depth is {median:.3g} m.")
            if not DOUBTFUL_METRES[0] <= median <= DOUBTFUL_METRES[1]:
                notes.append("That is an unlikely depth: check the unit or scale of the truth.")
        if scale.spread > DOUBTFUL_SPREAD:
            notes.append(
                f"SfM points deviate from the truth by {scale.spread:.0%} in the median: it may "
                "belong to other photos, to another grid, or hold no depth along the axis."
            )
        for text, names in (
            ("no true depth, left out", self.without_truth),
            ("true depth without a known pixel inside the photo, left out", self.empty),
            *((f"no {stage} depth, counted as missing", n) for stage, n in self.missing.items()),
        ):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                notes.append(f"{len(names)} views with {text}: {', '.join(names[:5])}{more}.")
        return notes


def _read(
    found: DepthMap | NDArray[np.floating] | None, view: View, name: str, stage: str
) -> tuple[NDArray[np.floating] | None, NDArray[np.floating] | None]:
    """Depth and confidence of a stage, checked for size."""
    if found is None:
        return None, None
    depth = found.depth if isinstance(found, DepthMap) else np.asarray(found)
    if depth.shape != view.camera.shape:
        size = "x".join(str(n) for n in reversed(depth.shape))
        raise InputError(
            f"{stage} depth is {size}, its photo {view.camera.width}x{view.camera.height}.",
            subject=name,
            action="Depth must lie in the grid of the undistorted photo.",
        )
    return depth, found.confidence if isinstance(found, DepthMap) else None


def _summary(views: dict[str, Any]) -> dict[str, Any]:
    parts = dict.fromkeys(part for row in views.values() for part in row)
    mean = {part: metrics.mean_over_views([row[part] for row in views.values()]) for part in parts}
    return {"mean": mean, "views": views}


def _worth(pairs: list[tuple[Array, Array]]) -> dict[str, Any]:
    """AUSE of the relative error over all views' pixels, beside that of a random order, and how far
    stated confidence is a probability."""
    error = np.concatenate([pair[0] for pair in pairs])
    confidence = np.concatenate([pair[1] for pair in pairs])
    if not error.size:
        return {"pixels": 0}
    curve = metrics.sparsification(error, confidence)
    return {
        "pixels": int(error.size),
        "ause_abs_rel": curve.ause,
        "ause_random": curve.ause_random,
        "gain_of_dropping_20_percent": curve.gain_of_dropping(0.2),
        "reliability": reliability(error, np.clip(confidence, 0, 1)),
        "curve": {
            "kept": curve.kept.tolist(),
            "by_confidence": curve.by_confidence.tolist(),
            "oracle": curve.oracle.tolist(),
        },
    }
