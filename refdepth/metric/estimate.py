"""Estimates of the metres in a unit, each with its error: joined, chosen from, held against each
other.

Errors are one standard deviation, relative; since a scale is a factor, everything is done in
logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np

_STANDS_OUT = 4.0
"""Errors off the others at which one of three or more measurements is left out."""
_CONTRADICTS = 3.0
"""Errors apart at which two estimates contradict each other."""
_NEGLIGIBLE = 0.005
"""Estimates that are closer never do."""


class Source(StrEnum):
    """What says how long a unit is; the most reliable first."""

    DISTANCES = "distances"
    TAGS = "tags"
    GPS = "GPS"
    DEPTH = "metric depth"

    @property
    def rank(self) -> int:
        """Sources of the lowest rank that is there are used; distances and tags are equals."""
        return max(0, list(Source).index(self) - 1)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One distance, one tag, all of GPS."""

    what: str
    metres_per_unit: float
    relative_error: float
    """One standard deviation."""
    used: bool = True


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one source says."""

    source: Source
    metres_per_unit: float
    relative_error: float
    """One standard deviation."""
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `residual` is how much longer than its own length the estimate makes a
        measurement, relative."""
        out = asdict(self)
        out["measurements"] = [
            {**asdict(m), "residual": self.metres_per_unit / m.metres_per_unit - 1}
            for m in self.measurements
        ]
        return out


def joined(
    source: Source, measurements: Sequence[Measurement], notes: Sequence[str] = ()
) -> Estimate:
    """The weighted mean of at least one measurement. Of three or more those are left out, and named
    in the notes, that lie far off the weighted median; what the others differ by more than their
    errors widens the error of the mean."""
    logs = np.log([m.metres_per_unit for m in measurements])
    errors = np.array([m.relative_error for m in measurements])
    weight = 1 / errors**2
    used, told = np.ones(len(logs), bool), list(notes)
    if len(logs) > 2:
        order = np.argsort(logs)
        total = np.cumsum(weight[order])
        middle = logs[order][np.searchsorted(total, total[-1] / 2)]
        used = np.abs(logs - middle) <= np.maximum(_STANDS_OUT * errors, _NEGLIGIBLE)
        told += [
            f"{m.what} is {abs(math.expm1(log - middle)):.1%} off the others and is left out"
            for m, log, fits in zip(measurements, logs, used, strict=True)
            if not fits
        ]
    mean, error = _mean(logs[used], errors[used])
    off = np.abs(logs - mean)[used]
    if (off > np.maximum(_CONTRADICTS * errors[used], _NEGLIGIBLE)).any():
        told.append(f"its measurements differ by up to {math.expm1(np.ptp(logs[used])):.1%}")
    return Estimate(
        source=source,
        metres_per_unit=math.exp(mean),
        relative_error=error,
        measurements=tuple(
            Measurement(**{**asdict(m), "used": bool(fits)})
            for m, fits in zip(measurements, used, strict=True)
        ),
        notes=tuple(told),
    )


def chosen(estimates: Sequence[Estimate]) -> tuple[float, float, tuple[Source, ...]]:
    """Metres in a unit, their relative error, and the sources used: distances and tags together
    before GPS before metric depth. At least one estimate is needed."""
    best = min(estimate.source.rank for estimate in estimates)
    used = [estimate for estimate in estimates if estimate.source.rank == best]
    mean, error = _mean(
        np.log([estimate.metres_per_unit for estimate in used]),
        np.array([estimate.relative_error for estimate in used]),
    )
    return math.exp(mean), error, tuple(estimate.source for estimate in used)


def contradictions(estimates: Sequence[Estimate]) -> Iterator[str]:
    """In words, every two estimates that differ by more than their errors explain."""
    for a, b in combinations(estimates, 2):
        if contradict(a, b.metres_per_unit, b.relative_error):
            ratio = math.exp(abs(math.log(a.metres_per_unit / b.metres_per_unit)))
            apart = f"{ratio - 1:.1%}" if ratio < 2 else f"a factor of {ratio:.1f}"
            yield f"{_says(a)}, {_says(b)}: {apart} apart, more than their errors explain"


def contradict(estimate: Estimate, metres_per_unit: float, relative_error: float) -> bool:
    """Whether an estimate differs from another value by more than both errors explain."""
    apart = abs(math.log(estimate.metres_per_unit / metres_per_unit))
    expected = math.hypot(estimate.relative_error, relative_error)
    return apart > max(_CONTRADICTS * expected, _NEGLIGIBLE)


def _says(estimate: Estimate) -> str:
    verb = "say" if estimate.source in (Source.DISTANCES, Source.TAGS) else "says"
    error = f"± {estimate.relative_error:.1%}"
    return f"{estimate.source} {verb} {estimate.metres_per_unit:.4g} m a unit ({error})"


def _mean(logs: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its error, which is widened where the spread is larger than the errors."""
    weight = 1 / errors**2
    mean = float(weight @ logs / weight.sum())
    error = float(weight.sum() ** -0.5)
    if len(logs) > 1:
        spread = float(weight @ (logs - mean) ** 2) / (len(logs) - 1)
        error *= max(1.0, spread**0.5)
    return mean, error
