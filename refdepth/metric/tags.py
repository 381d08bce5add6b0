"""Printed square tags in photos (AprilTag, ArUco) through OpenCV (extra `tags`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import ConfigurationError, UnavailableError
from refdepth.metric.tag_corners import refined_corners

DEFAULT_FAMILY = "apriltag_36h11"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """A tag in a photo."""

    tag: int
    """Its number in the family."""
    view: str
    """Name of the photo."""
    corners: NDArray[np.float64]
    """Corners of the black square (4, 2), clockwise from the tag's upper left, pixels; the centre
    of the first pixel is (0.5, 0.5)."""


class TagFinder:
    """Finds the tags of one family.

    Raises `UnavailableError` when OpenCV is not installed and `ConfigurationError` for a family
    that it does not know.
    """

    def __init__(self, family: str = DEFAULT_FAMILY) -> None:
        self._cv2 = _opencv()
        aruco = self._cv2.aruco
        known = {name[5:].lower(): name for name in dir(aruco) if name.startswith("DICT_")}
        if family.lower() not in known:
            raise ConfigurationError(
                "is not a family of tags.",
                subject=f"--tag-family {family}",
                action=f"Use one of {', '.join(sorted(known))}.",
            )
        dictionary = aruco.getPredefinedDictionary(getattr(aruco, known[family.lower()]))
        self._detector = aruco.ArucoDetector(dictionary, aruco.DetectorParameters())

    def find(self, rgb: NDArray[np.uint8], view: str) -> list[Sighting]:
        """The tags in a photo (height, width, 3). A number that is there twice is left out: which
        of them is which nobody could tell in another photo."""
        grey = self._cv2.cvtColor(np.ascontiguousarray(rgb), self._cv2.COLOR_RGB2GRAY)
        corners, numbers, _ = self._detector.detectMarkers(grey)
        found = [] if numbers is None else [int(number) for number in np.ravel(numbers)]
        # OpenCV puts the centre of the first pixel at (0, 0).
        squares = [np.reshape(square, (4, 2)).astype(np.float64) + 0.5 for square in corners]
        return [
            Sighting(tag=tag, view=view, corners=refined_corners(grey, square))
            for tag, square in zip(found, squares, strict=False)
            if found.count(tag) == 1
        ]


def tag_picture(tag: int, side_px: int, family: str = DEFAULT_FAMILY) -> NDArray[np.uint8]:
    """A tag (side_px, side_px), grey levels, to print: its black square fills the picture. Print it
    with a white margin. Raises like `TagFinder`."""
    finder = TagFinder(family)
    picture: Any = finder._detector.getDictionary().generateImageMarker(tag, side_px)
    return np.asarray(picture, np.uint8)


def _opencv() -> Any:
    try:
        import cv2
        import cv2.aruco
    except ImportError as error:
        raise UnavailableError(
            "is not installed; tags need it.",
            subject="cv2",
            action="pip install 'refdepth[tags]', or give --distance.",
        ) from error
    return cv2
