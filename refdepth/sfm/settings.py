"""Settings of structure from motion."""

from __future__ import annotations

from enum import StrEnum

from refdepth.settings import Settings, setting


class CameraSharing(StrEnum):
    """Which photos share one set of intrinsics."""

    AUTO = "auto"
    SINGLE = "single"
    PER_FOLDER = "per_folder"
    PER_IMAGE = "per_image"


class CameraModel(StrEnum):
    """COLMAP's camera models that a photo's lens may be described with."""

    SIMPLE_PINHOLE = "SIMPLE_PINHOLE"
    PINHOLE = "PINHOLE"
    SIMPLE_RADIAL = "SIMPLE_RADIAL"
    RADIAL = "RADIAL"
    OPENCV = "OPENCV"
    FULL_OPENCV = "FULL_OPENCV"
    SIMPLE_RADIAL_FISHEYE = "SIMPLE_RADIAL_FISHEYE"
    RADIAL_FISHEYE = "RADIAL_FISHEYE"
    OPENCV_FISHEYE = "OPENCV_FISHEYE"


class Matching(StrEnum):
    """Which pairs of photos are matched."""

    AUTO = "auto"
    EXHAUSTIVE = "exhaustive"
    SEQUENTIAL = "sequential"
    SPATIAL = "spatial"
    RETRIEVAL = "retrieval"


class Guided(StrEnum):
    """Whether a pair is matched a second time, along the epipolar lines of the first."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Mapper(StrEnum):
    """How cameras are placed."""

    AUTO = "auto"
    INCREMENTAL = "incremental"
    GLOBAL = "global"


class SfmSettings(Settings):
    """How cameras and sparse points are found."""

    camera_sharing: CameraSharing = setting(
        CameraSharing.AUTO,
        "Photos that share intrinsics: auto (same EXIF camera, lens, focal length and size), "
        "single, per_folder or per_image.",
    )
    camera_model: CameraModel = setting(
        CameraModel.SIMPLE_RADIAL, "COLMAP camera model, with its lens distortion."
    )
    use_exif_focal: bool = setting(
        True, "Start from the focal length in the photos' EXIF data.", expert=True
    )
    max_features: int = setting(
        8192, "Most SIFT features in a photo.", ge=64, le=65536, expert=True
    )
    feature_image_size: int = setting(
        3200,
        "Longest side that features are looked for at.",
        unit="px",
        ge=64,
        le=16384,
        expert=True,
    )
    matching: Matching = setting(
        Matching.AUTO,
        "Pairs to match: auto, exhaustive (all), sequential (neighbours in name order; in long "
        "sets also photos that look alike), spatial (neighbours by GPS, and photos that look "
        "alike) or retrieval (photos that look alike).",
    )
    neighbours: int = setting(
        20,
        "Photos that look most alike, or are closest by GPS, that each photo is paired with.",
        ge=1,
        expert=True,
    )
    vocabulary: str | None = setting(
        None,
        "COLMAP vocabulary tree for SIFT that says which photos look alike; none: one is made from "
        "the photos.",
        affects_result=False,  # its content counts, see the stage
        expert=True,
    )
    overlap: int = setting(
        15,
        "Neighbours on each side that sequential matching pairs a photo with.",
        ge=1,
        expert=True,
    )
    guided_matching: Guided = setting(
        Guided.AUTO,
        "Match a second time along the epipolar lines of the first: auto does where photos have "
        "few features; time and memory grow with their square.",
        expert=True,
    )
    mapper: Mapper = setting(
        Mapper.AUTO,
        "auto, incremental (one camera after the other, robust) or global (all at once, faster on "
        "many photos).",
    )
    min_triangulation_angle_deg: float = setting(
        8.0,
        "Least angle between the rays of the first pair of photos; halved up to twice where no "
        "pair reaches it.",
        unit="deg",
        gt=0,
        lt=90,
        expert=True,
    )
    refine_principal_point: bool = setting(
        True,
        "Find where the lens' axis meets the picture, for cameras of ten photos or more that "
        "clearly ask for it; else the picture's centre is taken.",
    )
    refine_intrinsics: bool = setting(
        False, "With given poses: refine the given focal lengths and distortion.", expert=True
    )
    deterministic: bool = setting(
        True,
        "Place cameras on one thread, so that a repeated run gives the same bits.",
        expert=True,
    )
