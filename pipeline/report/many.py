"""Which views of many are shown in full, and what is said of the rest: rows and distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from refdepth.pipeline.report import charts
from refdepth.pipeline.report.facts import ViewFacts, accepted_share, left_out, number_of
from refdepth.pipeline.results import Results

IN_FULL = 60
"""A run of no more views shows all of them in full, and no table."""
WORST = 30
"""Of more views, so many that stand out most are shown in full; the rest of `IN_FULL` is spread
evenly over the others."""
BLOCK = 100
"""Rows of the table that are folded together: closed ones cost a browser next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A view in the table; empty texts where nothing is known."""

    number: int
    name: str
    in_full: bool
    points: str
    prior_error: str
    accepted: str
    agreement: str
    confirmed: str
    without: str
    """Shares of the sky and of what a mask leaves out."""
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that are folded together."""

    rows: tuple[Row, ...]
    flagged: int
    accepted: str
    """The mean of the views."""


def shown_in_full(facts: Mapping[str, ViewFacts]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The views that stand out most, worst first, and an even sample of the others in their order;
    all of a small run are in the second."""
    names = list(facts)
    if len(names) <= IN_FULL:
        return (), tuple(names)
    worst = sorted(names, key=lambda name: facts[name].doubt, reverse=True)[:WORST]
    others = [name for name in names if name not in set(worst)]
    chosen = np.linspace(0, len(others) - 1, IN_FULL - WORST).round().astype(int)
    return tuple(worst), tuple(others[number] for number in chosen)


def blocks(results: Results, facts: Mapping[str, ViewFacts], full: Sequence[str]) -> list[Block]:
    """All views as rows, in blocks; none where all are shown in full."""
    if len(full) == len(facts):
        return []
    confirmed, opened = _confirmed(results), set(full)
    rows, found = [], []
    for number, (name, of_view) in enumerate(facts.items(), start=1):
        own = results.names.own(name)
        before, after = (
            number_of(of_view.record.get(f"held_out_{when}")) for when in ("before", "after")
        )
        known = before is not None and after is not None
        rows.append(
            Row(
                number=number,
                name=own,
                in_full=name in opened,
                points=f"{of_view.fit.get('points', '')}",
                prior_error=_percent(of_view.prior_error, digits=1),
                accepted=_percent(accepted_share(of_view.record)),
                agreement=f"{before:.2f} → {after:.2f}" if known else "",
                confirmed=_percent(confirmed.get(own)),
                without=left_out(of_view.record),
                flags=of_view.flags,
            )
        )
    every = list(facts.values())
    for start in range(0, len(rows), BLOCK):
        some = every[start : start + BLOCK]
        shares = [s for one in some if (s := accepted_share(one.record)) is not None]
        found.append(
            Block(
                rows=tuple(rows[start : start + BLOCK]),
                flagged=sum(bool(one.flags) for one in some),
                accepted=_percent(float(np.mean(shares))) if shares else "",
            )
        )
    return found


def distributions(results: Results, facts: Mapping[str, ViewFacts]) -> list[tuple[str, Markup]]:
    """Charts of what all views have, with their titles; those of which nothing is known are left
    out."""
    shares = [accepted_share(one.record) for one in facts.values()]
    flagged = [bool(one.flags) for one in facts.values()]
    errors = [one.prior_error for one in facts.values()]
    points = [number_of(one.fit.get("points")) for one in facts.values()]
    confirmed = [number_of(value) for value in _confirmed(results).values()]
    percent = [[None if v is None else 100 * v for v in some] for some in (shares, confirmed)]
    drawn = {
        "Refinement accepted": charts.histogram(percent[0], x_label="% of a view", low=0, high=100),
        "Refinement accepted, view by view": charts.course(percent[0], flagged, y_label="%"),
        "Confirmed by other views": charts.histogram(
            percent[1], x_label="% of a view", low=0, high=100
        ),
        "Prior's error at SfM points": charts.histogram(
            [None if v is None else 100 * v for v in errors], x_label="median of a view, %", low=0
        ),
        "SfM points": charts.histogram(points, x_label="of a view", low=0),
    }
    return [(title, chart) for title, chart in drawn.items() if chart is not None]


def _confirmed(results: Results) -> Mapping[str, float]:
    """By the photos' own names."""
    manifest = results.manifest("fuse")
    found = manifest.summary.get("confirmed_share") if manifest is not None else None
    return found if isinstance(found, dict) else {}


def _percent(value: float | None, *, digits: int = 0) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"
