"""The results of an evaluation as plain tables of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DEPTH_COLUMNS = (
    ("AbsRel", "abs_rel", "error"),
    ("median", "median_rel", "error"),
    ("MAE", "mae", "length"),
    ("RMSE", "rmse", "length"),
    ("log-RMSE", "log_rmse", "error"),
    ("within 3 %", "inlier_1.03", "share"),
    ("< 1.25", "delta_1", "share"),
    ("< 1 cm", "within_1cm", "share"),
    ("< 5 cm", "within_5cm", "share"),
    ("< 10 cm", "within_10cm", "share"),
    ("coverage", "coverage", "share"),
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table of text cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences that belong under it."""

    def to_text(self) -> str:
        """Monospaced lines."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [self.title]
        for line in lines:
            cells = [line[0].ljust(widths[0])]
            cells += [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
            text.append("  ".join(cells).rstrip())
        return "\n".join([*text, *self.notes])


def depth_tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables of `evaluate_depth`'s result: errors by stage (all pixels, common pixels, edges,
    caps), pixels made better and worse, confidence."""
    metres = result["truth"]["in_metres"]
    tables = []
    stages = result["stages"]
    first = next(iter(stages.values()))
    titles = {
        "all": "Depth, all true pixels (missing counts as wrong in shares)",
        "common": "Depth, pixels known in every stage",
        "edges": "Depth at edges of the true depth",
    }
    for part in first["mean"]:
        title = titles.get(part, f"Depth, truth up to {part.removeprefix('cap_')}")
        columns = [c for c in _DEPTH_COLUMNS if c[1] in first["mean"][part]]
        unit = " [m]" if metres else ""
        rows = tuple(
            (stage, *(_cell(found["mean"][part][key], kind) for _, key, kind in columns))
            for stage, found in stages.items()
        )
        names = (name + (unit if kind == "length" else "") for name, _, kind in columns)
        notes = (result["scale"]["description"], *result["notes"]) if part == "all" else ()
        tables.append(Table(title=title, columns=("stage", *names), rows=rows, notes=notes))
    if result["changes"]:
        keys = ("better", "worse", "gained", "lost", "view_improved")
        changed = tuple(
            (step, *(_cell(found["mean"][key], "share") for key in keys))
            for step, found in result["changes"].items()
        )
        columns_ = ("step", "better", "worse", "gained", "lost", "views improved")
        tables.append(Table(title="Pixels changed", columns=columns_, rows=changed))
    worth = tuple(
        (
            stage,
            _cell(found["ause_abs_rel"], "error"),
            _cell(found["ause_random"], "error"),
            _cell(found["gain_of_dropping_20_percent"], "share"),
        )
        for stage, found in result["confidence"].items()
        if found["pixels"]
    )
    if worth:
        title = "Confidence (sparsification of AbsRel)"
        headings = ("stage", "AUSE", "random order", "AbsRel falls by dropping 20 %")
        tables.append(Table(title=title, columns=headings, rows=worth))
    tables += [
        reliability_table(found["reliability"], f"Confidence of {stage} depth, stated and true")
        for stage, found in result["confidence"].items()
        if found["pixels"]
    ]
    return tables


def reliability_table(found: Mapping[str, Any], title: str) -> Table:
    """Stated confidence beside the share that is right, from `reliability`'s result."""
    rows = tuple(
        (
            f"{row['low']:.1f} to {row['high']:.1f}",
            f"{row['count']:,}",
            _cell(row["stated"], "share"),
            _cell(row["true"], "share"),
        )
        for row in found["bins"]
    )
    total = (
        "all",
        f"{found['count']:,}",
        _cell(found["stated"], "share"),
        _cell(found["true"], "share"),
    )
    within = f"within {found['within']:.0%}".replace("%", " %")
    notes = (f"mean gap between the two {found['gap']:.3f}",)
    return Table(
        title=title,
        columns=("confidence", "count", "stated", within),
        rows=(*rows, total),
        notes=notes,
    )


def view_table(result: Mapping[str, Any]) -> Table:
    """AbsRel and share within 3 % of every view after every stage."""
    stages = result["stages"]
    columns = ["view"]
    for stage in stages:
        columns += [f"{stage} AbsRel", "within 3 %"]
    rows = []
    for name in next(iter(stages.values()))["views"]:
        row = [name]
        for found in stages.values():
            view = found["views"][name]["all"]
            row += [_cell(view["abs_rel"], "error"), _cell(view["inlier_1.03"], "share")]
        rows.append(tuple(row))
    return Table(title="Views", columns=tuple(columns), rows=tuple(rows))


def cloud_table(result: Mapping[str, Any]) -> Table:
    """Precision, recall and F of `evaluate_cloud`'s result."""
    scores = result["scores"]
    names = ("precision", "recall", "f", "eth3d_accuracy", "eth3d_completeness")
    rows = tuple(
        (
            f"{d:g}",
            *(_cell(scores[f"{name}_{d:g}"], "share") for name in names),
            _cell(result["tanks_and_temples"][f"{d:g}"]["f"], "share"),
        )
        for d in result["distances"]
    )
    notes = (
        result["alignment"]["description"],
        f"thinned to {result['spacing']:g}; {scores['far_share']:.1%} of the cloud lies further "
        f"than {result['crop']:g} from the reference and is not judged",
    )
    columns = (
        "distance",
        "precision",
        "recall",
        "F",
        "ETH3D accuracy",
        "ETH3D completeness",
        "T&T F",
    )
    return Table(title="Cloud", columns=columns, rows=rows, notes=notes)


def _cell(value: float, kind: str) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.1%}" if kind == "share" else f"{value:.4f}"
