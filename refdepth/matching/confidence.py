"""How sure a photometric match is."""

from __future__ import annotations

from refdepth.arrays import Array, namespace

NO_MATCH_ZNCC = 0.3
"""Correlation at which a match means nothing."""
FULL_MATCH_ZNCC = 0.8
"""Correlation from which a match is as good as it gets."""


def photometric_confidence(zncc: Array, texture: Array) -> Array:
    """Confidence (H, W) in [0, 1] of a match, from its correlation and its texture."""
    span = FULL_MATCH_ZNCC - NO_MATCH_ZNCC
    return texture * namespace(zncc).clip((zncc - NO_MATCH_ZNCC) / span, 0, 1)
