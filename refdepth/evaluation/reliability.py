"""Whether a stated confidence is a probability: what is stated against what turns out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BINS = 10
WITHIN = 0.03
"""Relative error up to which a depth counts as right."""


def reliability(
    error: ArrayLike, confidence: ArrayLike, *, within: float = WITHIN, bins: int = BINS
) -> dict[str, Any]:
    """Relative errors (N,) under confidences (N,) in [0, 1], in equal `bins` of confidence, as
    plain JSON values.

    `bins`: for each that is not empty its `low` and `high` end, `count`, mean `stated` confidence
    and `true` share with an error of at most `within`. `gap`: mean difference of the two, weighted
    with counts (the expected calibration error, Naeini et al. 2015). `stated`, `true`: over all.

    Raises `ValueError` when nothing is given, or a confidence lies outside [0, 1].
    """
    error, confidence = np.asarray(error, np.float64), np.asarray(confidence, np.float64)
    if error.ndim != 1 or error.shape != confidence.shape or not error.size:
        raise ValueError(
            f"need as many errors as confidences, got {error.shape}, {confidence.shape}"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidences must lie in [0, 1]")
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    stated = np.bincount(place, confidence, bins)
    true = np.bincount(place, error <= within, bins)
    rows = [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "count": int(count[i]),
            "stated": float(stated[i] / count[i]),
            "true": float(true[i] / count[i]),
        }
        for i in np.flatnonzero(count).tolist()
    ]
    return {
        "within": within,
        "count": int(error.size),
        "gap": float(np.abs(stated - true).sum() / error.size),
        "stated": float(stated.sum() / error.size),
        "true": float(true.sum() / error.size),
        "bins": rows,
    }
