"""Settings of preparing what people give."""

from __future__ import annotations

from enum import StrEnum

from refdepth.settings import Settings, setting


class Alpha(StrEnum):
    """What a photo's transparency means."""

    MASK = "mask"
    IGNORE = "ignore"


class Panoramas(StrEnum):
    """Which pictures are 360 degree panoramas."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class PrepareSettings(Settings):
    """How photos and videos are read."""

    max_size: int | None = setting(
        None, "Shrink photos whose longest side is larger than this.", unit="px", ge=64
    )
    max_megapixels: float = setting(
        150.0,
        "Larger pictures are refused before they are decoded.",
        unit="megapixels",
        gt=0,
        expert=True,
    )
    upright: bool = setting(
        True,
        "Turn photos as their EXIF orientation says; false keeps them as stored, as COLMAP does.",
        expert=True,
    )
    alpha: Alpha = setting(
        Alpha.MASK,
        "Fully transparent pixels: mask leaves them out, ignore takes their colour.",
        expert=True,
    )
    panoramas: Panoramas = setting(
        Panoramas.AUTO,
        "Pictures that are equirectangular 360 degree panoramas, to be cut into six photos: auto "
        "(by their metadata, else by size 2:1 and sides that meet), yes (all) or no.",
        expert=True,
    )
    frame_spacing: float = setting(
        0.06,
        "Image motion between chosen video frames, as a share of the picture's diagonal.",
        gt=0,
        le=1,
    )
    min_frame_interval_s: float = setting(
        0.1, "Least time between chosen video frames.", unit="s", ge=0, expert=True
    )
    max_frame_interval_s: float = setting(
        2.0,
        "Most time between chosen video frames while anything moves.",
        unit="s",
        gt=0,
        expert=True,
    )
    max_frames: int = setting(200, "Most frames taken from one video.", ge=2)
