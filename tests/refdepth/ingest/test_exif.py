"""Focal lengths, camera keys and positions from EXIF."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from refdepth.ingest import PreparedPhoto, prepare_photo
from refdepth.ingest.exif import read_camera_hint, read_exif, read_position
from refdepth.synthetic import make_scene


def exif_of(details: dict[int, Any], **named: str) -> Image.Exif:
    exif = Image.Exif()
    for name, value in named.items():
        exif[Base[name]] = value
    exif.get_ifd(IFD.Exif).update(details)
    return exif


def test_35_mm_equivalent_refers_to_the_diagonal() -> None:
    """36 mm on a full-frame 3:2 sensor, 36 mm wide: the focal length is the picture's width."""
    hint = read_camera_hint(exif_of({Base.FocalLengthIn35mmFilm: 36}), 6000, 4000)
    assert hint.focal_px == pytest.approx(6000)
    turned = read_camera_hint(exif_of({Base.FocalLengthIn35mmFilm: 36}), 4000, 6000)
    assert turned.focal_px == pytest.approx(6000)


@pytest.mark.parametrize(("width", "height"), [(480, 360), (480, 270), (240, 320)])
def test_synthetic_photos_tell_their_true_focal_length(
    tmp_path: Path, width: int, height: int
) -> None:
    """To the half millimetre that EXIF's whole numbers leave."""
    room = make_scene(views=1, width=width, height=height)
    (path,) = room.write_photos(tmp_path)
    with Image.open(path) as picture:
        found = read_camera_hint(read_exif(picture), width, height).focal_px
    half_a_millimetre = 0.5 * math.hypot(width, height) / math.hypot(36, 24)
    assert found == pytest.approx(room.camera.K[0, 0], abs=half_a_millimetre)


def test_focal_plane_resolution_gives_pixels_also_of_a_shrunk_photo() -> None:
    """50 mm on a sensor with 100 pixels a millimetre: 5000 px; 2500 px at half size."""
    details = {
        Base.FocalLength: IFDRational(50, 1),
        Base.FocalPlaneXResolution: IFDRational(2540, 1),
        Base.FocalPlaneResolutionUnit: 2,
        Base.ExifImageWidth: 3600,
        Base.ExifImageHeight: 2400,
    }
    assert read_camera_hint(exif_of(details), 3600, 2400).focal_px == pytest.approx(5000)
    assert read_camera_hint(exif_of(details), 1800, 1200).focal_px == pytest.approx(2500)


@pytest.mark.parametrize("focal_35mm", [1, 60000])
def test_an_impossible_focal_length_is_left_out_with_a_warning(focal_35mm: int) -> None:
    hint = read_camera_hint(exif_of({Base.FocalLengthIn35mmFilm: focal_35mm}), 6000, 4000)
    assert hint.focal_px is None
    assert "impossible" in str(hint.warning)


@pytest.mark.parametrize("value", [0, -3, IFDRational(0, 0), "wide", (1, 2)])
def test_senseless_values_are_no_focal_length(value: Any) -> None:
    exif = Image.Exif()
    exif._ifds[IFD.Exif] = {Base.FocalLengthIn35mmFilm: value, Base.FocalLength: value}
    assert read_camera_hint(exif, 6000, 4000).focal_px is None


def test_the_key_tells_cameras_and_zooms_apart() -> None:
    keys = [
        read_camera_hint(
            exif_of({Base.FocalLength: IFDRational(focal, 10)}, Make="Maker", Model=model), 60, 40
        ).key
        for model, focal in (("A", 280), ("A", 280), ("B", 280), ("A", 500))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert read_camera_hint(Image.Exif(), 60, 40).key == ""


def gps_of(**fields: Any) -> Image.Exif:
    exif = Image.Exif()
    exif._ifds[IFD.GPSInfo] = {GPS[name]: value for name, value in fields.items()}
    return exif


def angle(*parts: float) -> tuple[IFDRational, ...]:
    return tuple(IFDRational(round(part * 1000), 1000) for part in parts)


def test_a_position_survives_a_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: angle(33, 51, 24.48),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: angle(151, 12, 54.72),
            GPS.GPSAltitudeRef: b"\x01",
            GPS.GPSAltitude: IFDRational(25, 10),
        }
    )
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    with Image.open(path) as picture:
        found = read_position(read_exif(picture))
    assert found is not None
    assert found.latitude_deg == pytest.approx(-33.8568)
    assert found.longitude_deg == pytest.approx(151.2152)
    assert found.altitude_m == pytest.approx(-2.5)
    row = prepare_photo(path, tmp_path / "prepared")
    assert row.position == found
    assert PreparedPhoto.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_a_table_without_positions_still_loads() -> None:
    size = {"width": 60, "height": 40, "stored_width": 60, "stored_height": 40}
    row = PreparedPhoto(name="a.jpg", original="a.jpg", **size).to_dict()
    del row["position"]
    assert PreparedPhoto.from_dict(row).position is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"GPSLatitude": angle(48, 0, 0)},
        {"GPSLatitude": angle(0, 0, 0), "GPSLongitude": angle(0, 0, 0)},
        {"GPSLatitude": angle(95, 0, 0), "GPSLongitude": angle(7, 0, 0)},
        {"GPSLatitude": angle(48, 0, 0), "GPSLongitude": angle(181, 0, 0)},
        {"GPSLatitude": (IFDRational(0, 0),) * 3, "GPSLongitude": angle(7, 0, 0)},
        {"GPSLatitude": "north", "GPSLongitude": angle(7, 0, 0)},
        {"GPSLatitude": angle(1, 2, 3, 4), "GPSLongitude": angle(7, 0, 0)},
        {"GPSLatitude": 48.0, "GPSLongitude": angle(7, 0, 0)},
    ],
)
def test_no_place_on_earth_is_no_position(fields: dict[str, Any]) -> None:
    assert read_position(gps_of(**fields)) is None
