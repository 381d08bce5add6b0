"""Which pairs of photos are matched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.ingest.discovery import natural_key
from refdepth.ingest.panoramas import Face
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.settings import Matching, SfmSettings

EXHAUSTIVE_LIMIT = 150
"""Most photos for which `auto` matches all pairs."""
_LOCATED_SHARE = 0.9
"""Share of the photos that must have a GPS position for `auto` to go by it."""
_LEAST_SPREAD_M = 30.0
"""Median distance from the middle below which GPS, a few metres off, says little."""
_EARTH_RADIUS_M = 6_371_000.0
_MORE_SHARE = 0.5
"""Part of `sfm.neighbours` that photos get by looks which have neighbours by name or place."""
_MOST_KNOWN = 100
"""Neighbours of a photo that looking for more allows for; a place where thousands stand has more.
"""

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """How pairs are chosen: some by what is known beforehand, some by what the photos show."""

    matching: Matching
    known: tuple[Pair, ...]
    """Pairs of photo names that need no look at the photos."""
    alike: Mapping[str, int]
    """How many of the photos that look most like it, besides those of `known`, each photo is
    paired with; empty where no photo is."""
    panorama: Mapping[str, str] = field(default_factory=dict)
    """The panorama of each face: two faces of one have no baseline and make no pair."""

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked for."""
        digest = hashlib.sha256(json.dumps([self.matching, dict(self.alike)]).encode())
        for first, second in self.known:
            digest.update(f"{first} {second}\n".encode())
        return digest.hexdigest()

    @property
    def most_asked(self) -> int:
        """Photos to look for, so that enough are left of them for every photo of `alike`."""
        known = dict.fromkeys(self.alike, 0)
        for name in (name for pair in self.known for name in pair if name in known):
            known[name] += 1
        asked = (count + min(known[name], _MOST_KNOWN) for name, count in self.alike.items())
        return max(asked, default=0) + (len(Face) - 1 if self.panorama else 0)

    def pairs(self, ranked: Mapping[str, Sequence[str]]) -> list[Pair]:
        """All pairs, each once, given for each photo of `alike` the others that look like it, best
        first."""
        before = {frozenset(pair) for pair in self.known}
        found = dict.fromkeys(
            _ordered(name, other)
            for name, count in self.alike.items()
            for other in [
                other
                for other in ranked.get(name, ())
                if other != name
                and frozenset((name, other)) not in before
                and not self._together(name, other)
            ][:count]
        )
        return [*self.known, *found]

    def _together(self, name: str, other: str) -> bool:
        return name in self.panorama and self.panorama[name] == self.panorama.get(other)


def plan_pairs(photos: Sequence[PreparedPhoto], settings: SfmSettings) -> PairPlan:
    """How the pairs of `photos` are chosen.

    `auto` is exhaustive up to `EXHAUSTIVE_LIMIT` photos. Beyond, it goes by name order for sets
    that are mostly video frames, by GPS where nearly all photos have positions that lie far enough
    apart, else by looks. Neighbours by name or GPS are joined by photos that look alike: they close
    the loops of a video, and a photo with a wrong position, or none, is not lost. Panoramas go
    together: neighbours by name or GPS are neighbouring panoramas, all faces of one with all of the
    other, as many as make about the number of photos that is set.

    Raises `InputError` for `spatial` where photos have no positions.
    """
    photos = sorted(photos, key=lambda one: natural_key(one.original))
    names = [photo.name for photo in photos]
    places: dict[str, list[PreparedPhoto]] = {}
    for photo in photos:
        places.setdefault(photo.name if photo.face is None else photo.given, []).append(photo)
    faces = len(photos) / max(1, len(places))
    located = {photo.name: photo for photo in photos if photo.position is not None}
    kind = settings.matching
    if kind == Matching.AUTO:
        kind = _automatic(photos, [of for of, *_ in places.values() if of.name in located])
    few = max(1, round(settings.neighbours * _MORE_SHARE))
    known: Sequence[Pair] = ()
    alike: dict[str, int] = {}
    if kind == Matching.EXHAUSTIVE:
        known = _between(places, combinations(places, 2))
    elif kind == Matching.SEQUENTIAL:
        overlap = max(1, round(settings.overlap / faces))
        known = _between(places, sequential_pairs(list(places), overlap))
        alike = dict.fromkeys(names, few) if len(names) > EXHAUSTIVE_LIMIT else {}
    elif kind == Matching.SPATIAL:
        if len(located) < 2:
            raise InputError(
                f"spatial, but {len(located)} of {len(photos)} photos have a GPS position.",
                subject="sfm.matching",
                action="Use auto or retrieval.",
            )
        fixed = {place: of for place, (of, *_) in places.items() if of.name in located}
        neighbours = max(1, round(settings.neighbours / faces))
        located_m = positions_m(list(fixed.values()))
        known = _between(places, spatial_pairs(list(fixed), located_m, neighbours))
        alike = {name: few if name in located else settings.neighbours for name in names}
    else:
        alike = dict.fromkeys(names, settings.neighbours)
    panorama = {photo.name: photo.given for photo in photos if photo.face is not None}
    return PairPlan(matching=kind, known=tuple(known), alike=alike, panorama=panorama)


def sequential_pairs(names: Sequence[str], overlap: int) -> list[Pair]:
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


def spatial_pairs(names: Sequence[str], places: NDArray[np.float64], count: int) -> list[Pair]:
    """Each photo of `names` with the `count` closest by `places` (N, 2), metres."""
    from scipy.spatial import cKDTree

    _, rows = cKDTree(places).query(places, k=range(1, min(count + 1, len(names)) + 1))
    found = (
        _ordered(names[row], names[other])
        for row, others in enumerate(rows.tolist())
        for other in [other for other in others if other != row][:count]
    )
    return list(dict.fromkeys(found))


def positions_m(photos: Sequence[PreparedPhoto]) -> NDArray[np.float64]:
    """East and north (N, 2) of photos that all have positions, metres from their middle."""
    degrees = np.array(
        [(one.position.longitude_deg, one.position.latitude_deg) for one in photos if one.position]
    )
    degrees[:, 0] = (degrees[:, 0] - degrees[0, 0] + 180) % 360  # across the date line, too
    degrees -= np.median(degrees, axis=0) * [1, 0]
    middle = np.median(degrees[:, 1])
    east = degrees[:, 0] * np.cos(np.radians(middle))
    return np.radians(np.stack([east, degrees[:, 1] - middle], axis=1)) * _EARTH_RADIUS_M


def _between(places: Mapping[str, Sequence[PreparedPhoto]], pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs of photos between pairs of places, all of the one with all of the other."""
    return [
        (first.name, second.name)
        for one, other in pairs
        for first in places[one]
        for second in places[other]
    ]


def _automatic(photos: Sequence[PreparedPhoto], located: Sequence[PreparedPhoto]) -> Matching:
    """What `auto` is for `photos`, of which one at each place with a position is in `located`."""
    if len(photos) <= EXHAUSTIVE_LIMIT:
        return Matching.EXHAUSTIVE
    if 2 * sum(bool(photo.sequence) for photo in photos) > len(photos):
        return Matching.SEQUENTIAL
    if len(located) >= _LOCATED_SHARE * len({photo.given for photo in photos}):
        places = positions_m(located)
        differ = 2 * len(np.unique(places, axis=0)) > len(places)
        if differ and np.median(np.linalg.norm(places, axis=1)) >= _LEAST_SPREAD_M:
            return Matching.SPATIAL
    return Matching.RETRIEVAL


def _ordered(first: str, second: str) -> Pair:
    return (first, second) if first < second else (second, first)
