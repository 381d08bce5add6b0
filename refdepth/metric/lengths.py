"""Lengths and picked pixels as people write them: `16cm`, `A.jpg:812,440 B.jpg:90,1020 1.25m`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from refdepth.errors import ConfigurationError

METRES: dict[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "ft": 0.3048, "in": 0.0254}
"""Metres in each unit of length that is understood."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_LENGTH = re.compile(rf"({_NUMBER})\s*([a-z]+)", re.IGNORECASE)
_DISTANCE = re.compile(
    rf"(?P<first>.+):(?P<x>{_NUMBER}),(?P<y>{_NUMBER})\s+"
    rf"(?:(?P<second>.+):)?(?P<x2>{_NUMBER}),(?P<y2>{_NUMBER})\s+(?P<length>\S+|\S+\s[a-zA-Z]+)"
)


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A pixel that somebody points at."""

    photo: str
    """What the photo is called."""
    x: float
    """Pixels from the left edge of the upright photo as given; the first pixel's centre is 0.5."""
    y: float
    """The same from the top."""

    def __str__(self) -> str:
        return f"{self.photo}:{self.x:g},{self.y:g}"


@dataclass(frozen=True, kw_only=True)
class KnownDistance:
    """Two picked pixels and how far apart the places are that they show."""

    first: Pick
    second: Pick
    length_m: float

    def __str__(self) -> str:
        return f"{self.first} to {self.second}"


def parse_length(text: str, option: str) -> float:
    """Metres of a length with its unit: m, cm, mm, ft or in.

    Raises `ConfigurationError`, naming `option`, for what is no positive length.
    """
    found = _LENGTH.fullmatch(text.strip())
    metres = METRES.get(found[2].lower()) if found else None
    if found is None or metres is None or not float(found[1]) > 0:
        raise ConfigurationError(
            "is no length with its unit.",
            subject=f"{option} {text}",
            action=f"Write it like 16cm; units are {', '.join(METRES)}.",
        )
    return float(found[1]) * metres


def parse_distance(text: str, option: str = "--distance") -> KnownDistance:
    """What `PHOTO:X,Y PHOTO:X,Y LENGTH` says; without the second `PHOTO:` both are in the first.

    Raises `ConfigurationError`, naming `option`, for other text.
    """
    found = _DISTANCE.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(
            "is not two picked pixels and a length.",
            subject=f"{option} {text!r}",
            action='Write "A.jpg:812,440 B.jpg:90,1020 1.25m" with the quotes; both pixels in one'
            ' photo are "A.jpg:812,440 820,1020 1.25m".',
        )
    first = Pick(photo=found["first"], x=float(found["x"]), y=float(found["y"]))
    photo = found["second"] or first.photo
    return KnownDistance(
        first=first,
        second=Pick(photo=photo, x=float(found["x2"]), y=float(found["y2"])),
        length_m=parse_length(found["length"], option),
    )
