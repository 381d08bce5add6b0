"""Which pairs of photos are matched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from refdepth.ingest.discovery import natural_key
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.settings import Matching, SfmSettings

EXHAUSTIVE_LIMIT = 150
"""Most photos for which `auto` matches all pairs of a sequence."""


def choose_pairs(
    photos: Sequence[PreparedPhoto], settings: SfmSettings
) -> tuple[Matching, list[tuple[str, str]]]:
    """The matching that is used and its pairs of photo names.

    `auto` is exhaustive, but for long sets that are mostly video frames.
    """
    kind = settings.matching
    if kind == Matching.AUTO:
        frames = sum(bool(photo.sequence) for photo in photos)
        long_video = len(photos) > EXHAUSTIVE_LIMIT and 2 * frames > len(photos)
        kind = Matching.SEQUENTIAL if long_video else Matching.EXHAUSTIVE
    ordered = sorted(photos, key=lambda photo: natural_key(photo.original))
    names = [photo.name for photo in ordered]
    if kind == Matching.EXHAUSTIVE:
        return kind, list(combinations(names, 2))
    return kind, sequential_pairs(names, settings.overlap)


def sequential_pairs(names: Sequence[str], overlap: int) -> list[tuple[str, str]]:
    """Pairs up to `overlap` apart, and at distances of powers of two beyond, which tie a slow
    sequence together over longer baselines and small loops."""
    distances = list(range(1, overlap + 1))
    reach = 1
    while reach < min(len(names), 2**overlap):
        if reach > overlap:
            distances.append(reach)
        reach *= 2
    return [
        (names[first], names[first + distance])
        for first in range(len(names))
        for distance in distances
        if first + distance < len(names)
    ]
