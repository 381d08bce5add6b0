"""The tables of `accuracy.py`. Scores are figures by scene and prior, then by method."""

from __future__ import annotations

import numpy as np

from refdepth.evaluation import Table
from refdepth.synthetic import Variant

WORSE = 1.02
"""From which a view counts as worse."""


def overview(title: str, rows: list[tuple[str, dict[str, float]]]) -> Table:
    """One line a row of figures."""
    columns = ("", "AbsRel", "median", "< 3 %", "edges", "cover", "AUSE", "better", "s")
    lines = tuple(
        (
            name,
            f"{f['abs_rel']:.4f}",
            f"{f['median_rel']:.4f}",
            f"{f['inlier_1.03']:.3f}",
            f"{f['edges_abs_rel']:.3f}",
            f"{f['coverage']:.3f}",
            f"{f['ause_over_random']:.2f}",
            f"{f['views_improved']:.2f}",
            f"{f['seconds_per_view']:.2f}",
        )
        for name, f in rows
    )
    return Table(title=title, columns=columns, rows=lines)


def by_prior(scores: dict[str, dict[str, dict[str, float]]], methods: list[str]) -> Table:
    """All scenes and priors in one table: AbsRel and share within 3 % of every method."""
    rows = tuple(
        (
            *task.rsplit(", ", 1),
            *(f"{found[m]['abs_rel']:.4f} / {found[m]['inlier_1.03']:.3f}" for m in methods),
        )
        for task, found in scores.items()
    )
    notes = ("AbsRel / share of pixels within 3 %.",)
    return Table(
        title="Every scene and prior", columns=("", "prior", *methods), rows=rows, notes=notes
    )


def ablation(scores: dict[str, dict[str, dict[str, float]]], methods: list[str]) -> Table:
    """A row for each method, a column for each scene and prior."""
    rows = tuple(
        (
            m,
            *(
                f"{found[m]['abs_rel']:.3f} / {found[m]['inlier_1.03']:.3f}"
                for found in scores.values()
            ),
        )
        for m in methods
    )
    notes = ("AbsRel / share of pixels within 3 %.",)
    return Table(title="Levers taken away", columns=("", *scores), rows=rows, notes=notes)


def never_worse(errors: dict[str, dict[str, np.ndarray]], method: str) -> Table:
    """How many views a method leaves worse, by more than 2 % of AbsRel, than the better of the
    scaled prior and the scaled sweep, for all scenes that have a sweep."""
    rows = []
    for task, found in errors.items():
        swept = errors.get(f"{task.rsplit(', ', 1)[0]}, sweep")
        if swept is None or method not in found:
            continue
        better = np.minimum(found["scaled"], swept["scaled"])
        ratio = found[method] / better
        rows.append(
            (
                *task.rsplit(", ", 1),
                str(len(ratio)),
                f"{(ratio > WORSE).mean():.0%}",
                f"{ratio.max():.2f}",
                f"{np.median(ratio):.2f}",
            )
        )
    columns = ("", "prior", "views", "worse", "worst", "median")
    notes = (
        "AbsRel divided by that of the better of scaled prior and scaled sweep, view by view;",
        f"worse: above {WORSE}.",
    )
    return Table(title=f"{method}: never worse?", columns=columns, rows=tuple(rows), notes=notes)


def promises(scores: dict[str, dict[str, dict[str, float]]], method: str) -> Table:
    """What a method must keep on each scene, against the scaled prior."""
    rows = []
    for scene, found in scores.items():
        if method not in found:
            continue
        after, before = found[method], found["scaled"]
        calm = scores.get(scene.replace(Variant.EXPOSURE_CHANGES, Variant.ROOM), {})
        exposure = "-"
        if scene.startswith(Variant.EXPOSURE_CHANGES) and method in calm:
            exposure = f"{after['abs_rel'] / calm[method]['abs_rel']:.2f}"
        mirror = "-"
        if "mirror_abs_rel" in after:
            mirror = f"{after['mirror_abs_rel'] / before['mirror_abs_rel']:.2f}"
        rows.append(
            (
                scene,
                f"{after['median_rel'] / before['median_rel']:.2f}",
                f"{after['worst_view_ratio']:.2f}",
                mirror,
                exposure,
                f"{after['gain_of_dropping_20_percent']:.0%}",
            )
        )
    columns = ("", "median", "worst view", "mirror", "exposure", "drop 20 %")
    notes = (
        "Error of the refined depth divided by that of the scaled prior: median, AbsRel of the",
        "worst view, AbsRel on the mirror; AbsRel under exposure changes divided by that without;",
        "fall of AbsRel when the least confident 20 % are dropped.",
    )
    return Table(title=f"{method}: bounds", columns=columns, rows=tuple(rows), notes=notes)


def mean_over(scores: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean of every figure over scenes."""
    return {
        method: {key: float(np.mean([found[method][key] for found in scores])) for key in figures}
        for method, figures in scores[0].items()
        for figures in [{k for k in figures if k != "mirror_abs_rel"}]
    }
