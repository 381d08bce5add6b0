"""What the records of all views say, in the little that the page shows of each of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from refdepth.pipeline.results import Results

LOW_ACCEPTANCE = 0.5
"""A view of whose correction less was taken over is named, as the stage's record does."""
_OF_FIT = ("flags", "points", "residual_quantiles")
_OF_RECORD = (
    *("flags", "accepted_share", "held_out_before", "held_out_after"),
    *("sky_share", "masked_share"),
)
_LEFT_OUT = {"sky_share": "sky", "masked_share": "masked"}

Facts: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ViewFacts:
    """What the records of a view say, without what only its own charts need."""

    fit: Facts
    record: Facts

    @property
    def flags(self) -> tuple[str, ...]:
        """What is doubtful, in a word or two each."""
        flags = dict.fromkeys([*self.fit.get("flags", ()), *self.record.get("flags", ())])
        shown = ["no_prior"] if "no_prior" in flags else flags  # the others follow from it
        return tuple(str(flag).replace("_", " ") for flag in shown)

    @property
    def prior_error(self) -> float | None:
        """Median relative error of the prior at the SfM points."""
        return number_of(self.fit.get("residual_quantiles", {}).get("0.5"))

    @property
    def doubt(self) -> tuple[int, float, float]:
        """Larger for views that stand out more: by their flags, then by how much of the refinement
        was turned down, then by the prior's error."""
        share = accepted_share(self.record)
        return len(self.flags), 1 - (1.0 if share is None else share), self.prior_error or 0.0


def read_facts(results: Results) -> dict[str, ViewFacts]:
    """The facts of all views by name; empty before there is a scene."""
    if results.manifest("sfm") is None:
        return {}
    return {
        name: ViewFacts(
            fit=_parts(results.fit(name), _OF_FIT), record=_parts(results.record(name), _OF_RECORD)
        )
        for name in results.scene.names
    }


def accepted_share(record: Facts) -> float | None:
    """Share of a view whose correction was taken over; None where nothing judged it."""
    return number_of(record.get("accepted_share"))


def left_out(*records: Facts, weights: Sequence[float] = (1.0,)) -> str:
    """How much of views, each with its weight, has no depth on purpose: like `21 % sky, 4 %
    masked`; empty where that is nothing."""
    shares = {
        word: sum(
            weight * (number_of(record.get(name)) or 0.0)
            for record, weight in zip(records, weights, strict=True)
        )
        for name, word in _LEFT_OUT.items()
    }
    parts = {word: 100 * share / sum(weights) for word, share in shares.items() if share > 0}
    return ", ".join(f"{share:.{int(share < 1)}f} % {word}" for word, share in parts.items())


def number_of(value: Any) -> float | None:
    """A value of a record as a number; None where it is none."""
    return float(value) if isinstance(value, int | float) else None


def _parts(whole: Facts, names: Sequence[str]) -> Facts:
    return {name: whole[name] for name in names if name in whole}
