"""How sure a photometric match is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
NO_MATCH_ZNCC = 0.3
"""Correlation at which a match means nothing."""
FULL_MATCH_ZNCC = 0.8
"""Correlation from which a match is as good as it gets."""


def photometric_confidence(zncc: Map, texture: Map) -> Map:
    """Confidence (H, W) in [0, 1] of a match, from its correlation and its texture."""
    span = FULL_MATCH_ZNCC - NO_MATCH_ZNCC
    return texture * np.clip((zncc - np.float32(NO_MATCH_ZNCC)) / np.float32(span), 0, 1)
