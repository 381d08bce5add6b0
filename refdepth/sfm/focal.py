"""Which photos share a camera, and the focal length that each camera starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.settings import CameraSharing, SfmSettings

_UNKNOWN_FOCAL_FACTOR = 1.2
"""Focal length over longest side where nothing is known, as COLMAP."""
_UNKNOWN_FISHEYE_FACTOR = 0.4
"""The same of a fisheye: 143 degrees. Action cameras see less, full circles more."""
_ASKED = 9
"""Photos of a camera, spread over all of them, that a network is asked about: it takes seconds for
each, and their median has what one would have."""


class FocalSource(StrEnum):
    """Who says which focal length a camera starts from."""

    EXIF = "exif"
    NETWORK = "network"
    GUESS = "guess"


@dataclass(frozen=True, kw_only=True)
class FocalStart:
    """The focal length that a camera starts from; bundle adjustment goes on from there."""

    source: FocalSource
    focal_px: float
    """Pixels of the prepared photos."""
    photos: int
    """Photos that share the camera."""
    told_by: int = 0
    """Photos that have it from this source."""
    spread: float = 0.0
    """Middling distance of their log focal lengths from the median."""

    def __str__(self) -> str:
        by = f"{self.source}, {self.told_by} of them" if self.told_by else self.source
        return f"{self.focal_px:.0f} px ({by})"


def is_fisheye(settings: SfmSettings) -> bool:
    """Whether the camera model is a fisheye's: its focal length is no pinhole's."""
    return "FISHEYE" in settings.camera_model


def photos_to_ask(photos: Sequence[PreparedPhoto], settings: SfmSettings) -> list[str]:
    """Names of the photos whose focal length a network may be asked for, as no photo that shares
    their camera has one in its EXIF data; no more of a camera than its median needs."""
    if is_fisheye(settings):
        return []
    found = []
    for group in camera_groups(photos, settings.camera_sharing):
        if not _from_exif(group, settings):
            rows = np.linspace(0, len(group) - 1, min(len(group), _ASKED)).round().astype(int)
            found += [group[row].name for row in rows]
    return found


def focal_start(
    photos: Sequence[PreparedPhoto], settings: SfmSettings, told: Mapping[str, float]
) -> FocalStart:
    """Where the camera that `photos` share starts: the median of the focal lengths in their EXIF
    data, else of those that a network has `told` of some by name (pixels), else a guess."""
    exif = _from_exif(photos, settings)
    network = [] if exif else [told[photo.name] for photo in photos if photo.name in told]
    if known := sorted(exif or network):
        middle = known[len(known) // 2]
        return FocalStart(
            source=FocalSource.EXIF if exif else FocalSource.NETWORK,
            focal_px=middle,
            photos=len(photos),
            told_by=len(known),
            spread=float(np.median([abs(math.log(one / middle)) for one in known])),
        )
    factor = _UNKNOWN_FISHEYE_FACTOR if is_fisheye(settings) else _UNKNOWN_FOCAL_FACTOR
    return FocalStart(
        source=FocalSource.GUESS,
        focal_px=factor * max(photos[0].width, photos[0].height),
        photos=len(photos),
    )


def _from_exif(photos: Sequence[PreparedPhoto], settings: SfmSettings) -> list[float]:
    if not settings.use_exif_focal:
        return []
    return [photo.focal_px for photo in photos if photo.focal_px]


def camera_groups(
    photos: Sequence[PreparedPhoto], sharing: CameraSharing
) -> list[list[PreparedPhoto]]:
    """Photos that share one camera, in order of their first.

    `auto` joins photos of equal size whose EXIF names the same camera, lens and focal length;
    photos without EXIF are joined by size, and by video. Faces of panoramas are left out: see
    `face_cameras`.
    Raises `InputError` when photos that shall share a camera differ in size.
    """
    groups: dict[tuple[Any, ...], list[PreparedPhoto]] = {}
    for photo in [photo for photo in photos if photo.face is None]:
        key: tuple[Any, ...]
        if sharing == CameraSharing.AUTO:
            key = (photo.width, photo.height, photo.camera_key, photo.sequence)
        elif sharing == CameraSharing.PER_FOLDER:
            key = (str(PurePosixPath(photo.original).parent),)
        elif sharing == CameraSharing.SINGLE:
            key = ()
        else:
            key = (photo.name,)
        groups.setdefault(key, []).append(photo)
    for group in groups.values():
        sizes = {(photo.width, photo.height): photo for photo in group}
        if len(sizes) > 1:
            (a, one), (b, other) = list(sizes.items())[:2]
            raise InputError(
                f"photos that shall share a camera differ in size ({one.original} is "
                f"{a[0]}x{a[1]}, {other.original} {b[0]}x{b[1]}).",
                subject="sfm.camera_sharing",
                action="Use auto or per_image.",
            )
    return list(groups.values())
