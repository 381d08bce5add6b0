"""How sure a depth is, from what is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.refine.consistency import Transferred, agreement
from refdepth.refine.search import MatchInput, matching_cost
from refdepth.refine.settings import RefineSettings

Map = NDArray[np.float32]
NO_MATCH_ZNCC = 0.3
"""Correlation at which a match means nothing."""
FULL_MATCH_ZNCC = 0.8
"""Correlation from which a match is as good as it gets."""


def photometric_confidence(zncc: Map, texture: Map) -> Map:
    """Confidence (H, W) in [0, 1] of a match, from its correlation and its texture."""
    span = FULL_MATCH_ZNCC - NO_MATCH_ZNCC
    return texture * np.clip((zncc - np.float32(NO_MATCH_ZNCC)) / np.float32(span), 0, 1)


def view_confidence(
    match: MatchInput, depth: Map, transferred: Transferred, settings: RefineSettings
) -> Map:
    """Confidence (H, W) in [0, 1] of final `depth`, from the photos and the neighbours' depth."""
    zncc = 1 - matching_cost(match, depth, settings.match.best_sources)
    photo = photometric_confidence(zncc, match.texture)
    agreed = agreement(transferred, depth, 0.01)
    return (0.3 * photo + 0.7 * agreed / (agreed + 2)).astype(np.float32)
