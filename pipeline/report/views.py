"""One view in the report: its pictures, charts and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.io.colors import depth_picture, depth_range, ratio_picture, value_picture
from refdepth.pipeline.devices import place_of
from refdepth.pipeline.report import charts
from refdepth.pipeline.report.facts import LOW_ACCEPTANCE, ViewFacts, accepted_share, left_out
from refdepth.pipeline.report.thumbnails import THUMBNAIL_PX, WIDTH_PX, jpeg, photo, step_for
from refdepth.pipeline.results import Results
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene

Value = TypeVar("Value")

_LEAST_LIMIT, _LARGEST_LIMIT = 0.01, 0.25
"""Range of the difference picture, log ratio."""
_SECONDS, _BYTES = 0.11, 20
"""Of a core for a megapixel of a view, and memory for a pixel."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a view with its legend."""

    title: str
    uri: Markup
    low: str = ""
    high: str = ""
    colors: str = ""
    """Which gradient the legend shows: depth, sure, ratio or none."""


@dataclass(frozen=True, kw_only=True)
class ViewReport:
    """All that is shown of one view."""

    number: int
    name: str
    size: str
    thumbnail: Markup | None
    flags: tuple[str, ...]
    """What is doubtful, in a word or two each."""
    accepted: str
    """How much of the refinement was taken over; empty where nothing judged it."""
    mostly_kept: bool
    """Whether most of the view stayed the scaled prior."""
    pictures: tuple[Picture, ...]
    fit_chart: Markup | None
    loss_chart: Markup | None
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """What is shown of a view, drawn from its artifacts."""

    root: Path
    """The workspace."""
    cost: Cost

    @classmethod
    def of(cls, workspace: Workspace, scene: Scene) -> Descriptions:
        """Those of all views of a workspace's scene."""
        camera = scene.typical_camera
        pixels = camera.width * camera.height
        cost = Cost(seconds=_SECONDS * pixels / 1e6, bytes=_BYTES * pixels)
        return cls(root=workspace.root, cost=cost)

    def open(self, desk: Desk) -> Callable[[str], ViewReport]:
        """Loads the scene."""
        results = Results(Workspace(self.root))
        numbers = {name: number for number, name in enumerate(results.scene.names, start=1)}

        def describe(name: str) -> ViewReport:
            fit, record = results.fit(name), results.record(name)
            return describe_view(results, name, fit, record, numbers[name])

        return describe


def describe_view(
    results: Results, name: str, fit: Mapping[str, Any], record: Mapping[str, Any], number: int
) -> ViewReport:
    """Reads one view's artifacts. What is missing or unreadable is left out."""
    view = results.scene[name]
    large, thumbnail = photo(view.image_path, WIDTH_PX, THUMBNAIL_PX) or (None, None)
    pictures = [Picture(title="Photo", uri=large)] if large is not None else []
    pictures += _depth_pictures(results, name, fit, step_for(view.camera.width))
    share = accepted_share(record)
    return ViewReport(
        number=number,
        name=results.names.own(name),
        size=f"{view.camera.width} × {view.camera.height}",
        thumbnail=thumbnail,
        flags=ViewFacts(fit=fit, record=record).flags,
        accepted="" if share is None else f"{100 * share:.0f} % accepted",
        mostly_kept=share is not None and share < LOW_ACCEPTANCE,
        pictures=tuple(pictures),
        fit_chart=_fit_chart(fit),
        loss_chart=_loss_chart(record),
        figures=tuple(_figures(fit, record)),
    )


def _depth_pictures(
    results: Results, name: str, fit: Mapping[str, Any], step: int
) -> list[Picture]:
    prior = _readable(lambda: results.prior(name)[::step, ::step])
    scaled = _readable(lambda: results.scaled(name)[::step, ::step])
    final = _readable(lambda: results.refined(name)) if name in results.views("refine") else None
    refined = None if final is None else final.depth[::step, ::step]
    confidence = None if final is None else final.confidence[::step, ::step]
    pictures = []
    if prior is not None:
        pictures.append(Picture(title="Prior, no unit", uri=jpeg(_prior_picture(prior, fit))))
    known = [depth for depth in (scaled, refined) if depth is not None]
    if not known:
        return pictures
    near, far = depth_range(*known)
    legend = {"low": f"{near:.3g}", "high": f"{far:.3g}", "colors": "depth"}
    if scaled is not None:
        uri = jpeg(depth_picture(scaled, near, far))
        pictures.append(Picture(title="Scaled to the points", uri=uri, **legend))
    if refined is not None and confidence is not None:
        uri = jpeg(depth_picture(refined, near, far))
        pictures.append(Picture(title="Refined", uri=uri, **legend))
        shown = np.where(refined > 0, confidence, np.nan)
        uri = jpeg(value_picture(shown, 0, 1))
        pictures.append(Picture(title="Confidence", uri=uri, low="0", high="1", colors="sure"))
    if scaled is not None and refined is not None:
        pictures.append(_difference(refined, scaled))
    return pictures


def _prior_picture(values: NDArray[np.float32], fit: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Near is warm, whatever the prior's kind."""
    if fit.get("kind") != PriorKind.INVERSE_AFFINE:
        values = -values
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.02, 0.98]) if known.size else (0.0, 1.0)
    return value_picture(values, float(low), float(high), colors="turbo")


def _difference(refined: NDArray[np.float32], scaled: NDArray[np.float32]) -> Picture:
    both = (refined > 0) & (scaled > 0)
    change = np.abs(np.log(refined[both] / scaled[both]))
    limit = float(np.quantile(change, 0.98)) if change.size else 0.0
    limit = min(max(limit, _LEAST_LIMIT), _LARGEST_LIMIT)
    percent = 100 * np.expm1(limit)
    return Picture(
        title="What refinement changed",
        uri=jpeg(ratio_picture(refined, scaled, limit)),
        low=f"{percent:.0f} % nearer",
        high=f"{percent:.0f} % farther",
        colors="ratio",
    )


def _fit_chart(fit: Mapping[str, Any]) -> Markup | None:
    samples = fit.get("samples", ())
    if not samples:
        return None
    x, z, inlier = (np.array(column, float) for column in zip(*samples, strict=True))
    inverse = fit.get("kind") == PriorKind.INVERSE_AFFINE
    line = (float(fit["a"]), float(fit["b"])) if fit.get("a", 0) > 0 else None
    return charts.scatter(
        x,
        1 / z if inverse else z,
        inlier,
        line=line,
        x_label="prior's value",
        y_label="1 / depth of the SfM point" if inverse else "depth of the SfM point",
    )


def _loss_chart(record: Mapping[str, Any]) -> Markup | None:
    """One line a level of the picture pyramid."""
    levels = record.get("fine", {}).get("levels", ())
    series = {f"1/{level.get('scale')} size": level.get("losses", ()) for level in levels}
    steps = max((level.get("steps", 0) for level in levels), default=0)
    shown = max((len(losses) for losses in series.values()), default=0)
    every = -(-steps // shown) if shown else 1
    return charts.lines(series, x_label="step" if every == 1 else f"step / {every}", y_label="loss")


def _figures(fit: Mapping[str, Any], record: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if fit:
        rows.append(("SfM points", f"{fit.get('points', 0)}, of which {fit.get('inliers', 0)} fit"))
        median = fit.get("residual_quantiles", {}).get("0.5")
        if median is not None:
            rows.append(("Prior's median error at them", f"{100 * median:.1f} %"))
        rows.append(("Share of the picture they cover", f"{100 * fit.get('coverage', 0):.0f} %"))
    if "sources" in record:
        rows.append(("Neighbours used", str(record["sources"])))
    without = left_out(record)
    if without:
        rows.append(("Without depth", without))
    fine = record.get("fine", {})
    for level in fine.get("levels", ()):
        first, last = level.get("loss_first"), level.get("loss_last")
        if isinstance(first, int | float) and isinstance(last, int | float):
            label = f"Loss at 1/{level.get('scale')} size, {level.get('steps')} steps"
            rows.append((label, f"{first:.4g} to {last:.4g}"))
    if "triangles" in fine:
        rows.append(("Triangles", f"{fine['triangles']:,}"))
    before, after = record.get("held_out_before"), record.get("held_out_after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        rows.append(
            ("Agreement with the photo left out", f"{before:.3f} before, {after:.3f} after")
        )
    place = place_of(record)
    if place:
        rows.append(("Refined on", place))
    seconds = record.get("seconds")
    if isinstance(seconds, Mapping):
        rows.append(("Time", f"{sum(v for v in seconds.values()):.1f} s"))
    return rows


def _readable(read: Callable[[], Value]) -> Value | None:
    """What `read` returns; None when the artifact is absent or damaged."""
    try:
        return read()
    except (InputError, KeyError, ValueError):
        return None
