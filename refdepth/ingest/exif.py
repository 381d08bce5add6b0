"""What a photo's EXIF data says about its camera and its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FOCAL_RATIO_LIMITS = (0.2, 20.0)


@dataclass(frozen=True, kw_only=True)
class GpsPosition:
    """Where a photo's EXIF says that it was taken (WGS 84)."""

    latitude_deg: float
    """North is positive, -90 to 90."""
    longitude_deg: float
    """East is positive, -180 to 180."""
    altitude_m: float | None = None
    """Height, metres; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class CameraHint:
    """Camera facts from EXIF; all may be missing."""

    focal_px: float | None = None
    """Focal length in pixels of the stored picture."""
    key: str = ""
    """Equal for photos that can share intrinsics: make, model, lens and focal length."""
    warning: str | None = None
    """Why a stated focal length is not believed."""


def read_exif(picture: Image.Image) -> Image.Exif:
    """The picture's EXIF data; empty where there is none or it is damaged."""
    try:
        return picture.getexif()
    except Exception:  # a damaged block raises whatever its parser meets
        return Image.Exif()


def orientation_of(exif: Image.Exif) -> int:
    """EXIF orientation 1 to 8; 1 where it is missing or no such number."""
    value = exif.get(Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_position(exif: Image.Exif) -> GpsPosition | None:
    """The position of a photo; None where there is none, or none on Earth. (0, 0), which receivers
    without a fix write, is none."""
    try:
        fields = exif.get_ifd(IFD.GPSInfo)
    except Exception:  # a damaged sub-directory raises whatever its parser meets
        return None
    latitude = _degrees(fields.get(GPS.GPSLatitude), fields.get(GPS.GPSLatitudeRef), "S")
    longitude = _degrees(fields.get(GPS.GPSLongitude), fields.get(GPS.GPSLongitudeRef), "W")
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None
    altitude = _finite(fields.get(GPS.GPSAltitude))
    below = fields.get(GPS.GPSAltitudeRef) in (1, b"\x01")
    return GpsPosition(
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=-altitude if altitude is not None and below else altitude,
    )


def read_camera_hint(exif: Image.Exif, width: int, height: int) -> CameraHint:
    """Camera facts of a picture stored as `width` x `height`.

    The focal length comes from the 35 mm equivalent (which refers to the diagonal, CIPA DCG-001),
    else from the focal length and the focal plane's resolution. Values that no camera has are
    left out with a warning.
    """
    try:
        details = exif.get_ifd(IFD.Exif)
    except Exception:  # a damaged sub-directory raises whatever its parser meets
        details = {}
    focal_mm = _number(details.get(Base.FocalLength))
    focal_35mm = _number(details.get(Base.FocalLengthIn35mmFilm))
    focal_px = None
    if focal_35mm:
        focal_px = focal_35mm / _FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)
    elif focal_mm:
        focal_px = _from_focal_plane(details, focal_mm, width, height)
    words = [exif.get(Base.Make), exif.get(Base.Model), details.get(Base.LensModel)]
    words += [details.get(Base.BodySerialNumber), focal_mm, focal_35mm]
    words.append(_number(details.get(Base.DigitalZoomRatio)))
    known = any(word not in (None, "") for word in words)
    key = "|".join("" if word is None else str(word).strip("\0 ") for word in words)
    warning = None
    if focal_px is not None:
        low, high = (limit * max(width, height) for limit in _FOCAL_RATIO_LIMITS)
        if not low <= focal_px <= high:
            warning = f"EXIF focal length ({focal_px:.0f} px) is impossible and is not used"
            focal_px = None
    return CameraHint(focal_px=focal_px, key=key if known else "", warning=warning)


def _from_focal_plane(
    details: dict[int, Any], focal_mm: float, width: int, height: int
) -> float | None:
    mm_per_unit = _MM_PER_UNIT.get(details.get(Base.FocalPlaneResolutionUnit, 2))
    per_unit = _number(details.get(Base.FocalPlaneXResolution))
    original_width = _number(details.get(Base.ExifImageWidth)) or float(width)
    if not (mm_per_unit and per_unit):
        return None
    original_height = _number(details.get(Base.ExifImageHeight)) or float(height)
    shrunk = max(width, height) / max(original_width, original_height)
    return focal_mm * per_unit / mm_per_unit * shrunk


def _degrees(value: Any, half: Any, negative: str) -> float | None:
    """Degrees of an angle given as degrees, minutes and seconds."""
    try:
        parts = [_finite(part) for part in value]
    except TypeError:
        return None
    if not 1 <= len(parts) <= 3 or any(part is None or part < 0 for part in parts):
        return None
    angle = sum(part / 60**place for place, part in enumerate(parts) if part is not None)
    return -angle if str(half).strip("\0 ").upper() == negative else angle


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _number(value: Any) -> float | None:
    """A positive finite number, or None."""
    number = _finite(value)
    return number if number is not None and number > 0 else None
