"""What the report says, read from a workspace as it lies there, finished or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from markupsafe import Markup

from refdepth.errors import InputError
from refdepth.io.colors import color_table
from refdepth.io.ply import count_ply
from refdepth.pipeline.engine import stage_names
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.metric import metres_per_unit, read_scale
from refdepth.pipeline.report import charts
from refdepth.pipeline.report.advice import Advice, advice_of
from refdepth.pipeline.report.facts import ViewFacts, left_out, read_facts
from refdepth.pipeline.report.many import Block, blocks, distributions, shown_in_full
from refdepth.pipeline.report.overview import MAX_POINTS, Overview, draw_overview
from refdepth.pipeline.report.settings import SettingRow, setting_rows
from refdepth.pipeline.report.views import ViewReport
from refdepth.pipeline.results import Results
from refdepth.pipeline.spare import described
from refdepth.types.scene import Scene

Describe: TypeAlias = Callable[[Scene, Sequence[str]], Mapping[str, ViewReport]]

_TITLES = {
    "prepare": "Photos read",
    "sfm": "Cameras found",
    "depth": "Depth estimated",
    "scale": "Depth fitted to the points",
    "refine": "Depth refined",
    "fuse": "Views fused",
}


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage in the table."""

    name: str
    title: str
    done: bool
    headline: str
    time: str
    memory: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure at the top of the page."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ViewGroup:
    """Views that are shown in full, under a title where there are others."""

    title: str
    views: tuple[ViewReport, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows."""

    title: str
    version: str
    finished: bool
    facts: tuple[Fact, ...]
    advice: tuple[Advice, ...]
    stages: tuple[StageRow, ...]
    overview: Overview | None
    confidence_chart: Markup | None
    """Stated confidence against what turned out."""
    view_count: int
    groups: tuple[ViewGroup, ...]
    distributions: tuple[tuple[str, Markup], ...]
    """Charts over all views with their titles, where there are many."""
    table: tuple[Block, ...]
    """All views in rows, where not all are shown in full."""
    dropped: str
    """What is gone of that pictures are made from, in words; empty: nothing."""
    metres_per_unit: str
    """Empty where the scale is arbitrary."""
    changed_settings: tuple[SettingRow, ...]
    all_settings: tuple[SettingRow, ...]
    libraries: dict[str, str]
    sure_colors: Markup
    """CSS gradient of the confidence pictures."""
    depth_colors: Markup
    """CSS gradient of the depth pictures, near to far."""
    ratio_colors: Markup
    """CSS gradient of the difference pictures, nearer to farther."""


def collect(results: Results, describe: Describe) -> Report:
    """Reads everything once. What is missing or unreadable is left out. `describe` does the views
    that are shown in full."""
    manifests = {name: results.manifest(name) for name in stage_names()}
    summaries = {name: m.summary for name, m in manifests.items() if m is not None}
    scene = results.scene if manifests["sfm"] is not None else None
    libraries: dict[str, str] = {}
    for manifest in manifests.values():
        libraries |= manifest.libraries if manifest is not None else {}
    rows = _settings(results)
    facts = read_facts(results)
    worst, others = shown_in_full(facts)
    views = {} if scene is None else describe(scene, (*worst, *others))
    table = blocks(results, facts, (*worst, *others))
    metres = metres_per_unit(results)
    return Report(
        title=results.workspace.root.name,
        version=libraries.get("refdepth", ""),
        finished=manifests["fuse"] is not None,
        facts=(*_facts(manifests, summaries), *_without(scene, facts), *_scale(results)),
        advice=tuple(advice_of(results, facts)),
        stages=tuple(_stage(name, manifests[name]) for name in manifests),
        overview=None if scene is None else _overview(results, scene, facts),
        confidence_chart=_confidence_chart(results),
        view_count=len(facts),
        groups=_groups(views, worst, others),
        distributions=tuple(distributions(results, facts)) if table else (),
        table=tuple(table),
        dropped=described(kind for kind in results.dropped if kind == "priors"),
        metres_per_unit="" if metres is None else f"{metres:.4g}",
        changed_settings=tuple(row for row in rows if row.changed),
        all_settings=tuple(rows),
        libraries=dict(sorted(libraries.items())),
        sure_colors=_gradient("viridis"),
        depth_colors=_gradient("turbo", reverse=True),
        ratio_colors=_gradient("RdBu_r"),
    )


def seconds_text(seconds: float) -> str:
    """Like `4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _stage(name: str, manifest: Manifest | None) -> StageRow:
    headline = str(manifest.summary.get("headline", "")) if manifest else "not finished"
    return StageRow(
        name=name,
        title=_TITLES[name],
        done=manifest is not None,
        headline=headline.replace(" %", "\N{NO-BREAK SPACE}%"),
        time=seconds_text(manifest.seconds) if manifest else "",
        memory=f"{manifest.peak_memory_mb:,.0f} MiB" if manifest else "",
    )


def _facts(
    manifests: dict[str, Manifest | None], summaries: dict[str, dict[str, Any]]
) -> tuple[Fact, ...]:
    facts = []
    sfm, scale, fuse = (summaries.get(name, {}) for name in ("sfm", "scale", "fuse"))
    if sfm:
        placed, failed = len(sfm.get("registered", ())), len(sfm.get("failed", ()))
        label = "photos, all placed" if not failed else f"of {placed + failed:,} photos placed"
        facts.append(Fact(value=f"{placed:,}", label=label))
        error = sfm.get("mean_reprojection_error_px")
        if isinstance(error, int | float):
            facts.append(Fact(value=f"{error:.2f} px", label="reprojection error"))
        facts += _focal_lengths(sfm.get("focal_starts", ()))
    residual = scale.get("median_residual")
    if isinstance(residual, int | float) and np.isfinite(residual):
        facts.append(Fact(value=f"{100 * residual:.1f} %", label="prior's error at SfM points"))
    share = summaries.get("refine", {}).get("accepted_share")
    if isinstance(share, int | float):
        facts.append(Fact(value=f"{100 * share:.0f} %", label="of the refinement accepted"))
    if isinstance(fuse.get("points"), int):
        facts.append(Fact(value=f"{fuse['points']:,}", label="points in the cloud"))
    total = sum(m.seconds for m in manifests.values() if m is not None)
    facts.append(Fact(value=seconds_text(total), label="of work"))
    return tuple(facts)


def _focal_lengths(starts: Sequence[Mapping[str, Any]]) -> Iterator[Fact]:
    """What cameras started from that a network told of."""
    told = [start for start in starts if start.get("source") == "network"]
    if told:
        largest = max(told, key=lambda start: start["photos"])
        more = f" (and {len(told) - 1} other cameras)" if len(told) > 1 else ""
        yield Fact(
            value=f"{largest['focal_px']:.0f} px",
            label=f"focal length that the network saw{more}: SfM's start",
        )


def _without(scene: Scene | None, facts: Mapping[str, ViewFacts]) -> Iterator[Fact]:
    """How much of all pixels is sky or masked."""
    refined = {name: one.record for name, one in facts.items() if "sky_share" in one.record}
    if scene is None or not refined:
        return
    cameras = [scene[name].camera for name in refined]
    pixels = [float(camera.width * camera.height) for camera in cameras]
    text = left_out(*refined.values(), weights=pixels)
    if text:
        yield Fact(value=text, label="of all pixels, without depth")


def _scale(results: Results) -> Iterator[Fact]:
    """How long a unit is, where that was measured."""
    scale = read_scale(results)
    if scale is not None and not scale.stale:
        length, _, by = scale.headline.removeprefix("1 unit = ").partition(" by ")
        yield Fact(value=length, label=f"a unit, by {by}")


def _settings(results: Results) -> list[SettingRow]:
    """All settings; none where another version of the program wrote them."""
    try:
        return setting_rows(results.workspace.request().config)
    except InputError:
        return []


def _groups(
    views: Mapping[str, ViewReport], worst: Sequence[str], others: Sequence[str]
) -> tuple[ViewGroup, ...]:
    titles = {"": others}
    if worst:
        first = f"The {len(worst)} that stand out most"
        titles = {first: worst, f"{len(others)} spread evenly over the others": others}
    return tuple(
        ViewGroup(title=title, views=tuple(views[name] for name in names))
        for title, names in titles.items()
        if names
    )


def _overview(results: Results, scene: Scene, facts: Mapping[str, ViewFacts]) -> Overview | None:
    """From the fused cloud where there is one, else from the SfM points."""
    doubtful = {name for name, one in facts.items() if one.flags}
    try:
        cloud = results.cloud(MAX_POINTS)
        points, colors = cloud.points.astype(np.float64), cloud.colors
        total = count_ply(results.cloud_path)
    except InputError:
        points, colors, total = scene.points.xyz, scene.points.rgb, len(scene.points)
    return draw_overview(scene, points, colors, results.names, total=total, doubtful=doubtful)


def _confidence_chart(results: Results) -> Markup | None:
    """At the SfM points left out of the refinement; None where these cannot be read."""
    found = results.calibration().get("at_points", {})
    try:
        pairs = [(float(b["stated"]), float(b["true"])) for b in found["bins"]]
        label = f"at {found['count']} left-out SfM points (gap {float(found['gap']):.2f})"
    except (TypeError, KeyError, ValueError):
        return None
    return charts.reliability(
        {label: pairs}, x_label="stated confidence", y_label="share within 3 %"
    )


def _gradient(name: str, *, reverse: bool = False) -> Markup:
    table = color_table(name)[:: -1 if reverse else 1]
    stops = ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in table[:: len(table) // 12])
    return Markup(f"linear-gradient(90deg,{stops})")  # numbers only
