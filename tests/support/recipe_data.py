"""What the recipes of docs/recipes.md start from, small and under the names that they use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import numpy as np
from connections import write_video
from measured_room import ORIGIN, positions_of
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from refdepth.io.colmap import to_reconstruction
from refdepth.synthetic import SyntheticScene, make_panoramas, make_scene
from refdepth.synthetic.outdoors import make_outdoors
from refdepth.synthetic.scene import photo_bytes, pinhole, taken_from

GROUND_M = ORIGIN.altitude_m - 1.6
"""Altitude of the ground that the drone flies over, which is at y = 1.6."""
FLIGHT_M = 18.6
"""Of the drone above the ground."""
HIGHEST_ROOF_M = 7.15
"""Of a house, above the ground."""
_STRIPS_Z, _ALONG_X = (12.0, 20.0), np.linspace(-6.0, 6.0, 4)
_GPS_NOISE_M = 0.05


def film_of_a_walk(path: Path) -> None:
    """A phone's video of a room."""
    write_video(path, make_scene(views=1, width=240, height=180), seconds=1.6, fps=15)


def photos_of_a_flight(folder: Path) -> None:
    """Two strips over houses, with GPS in EXIF: x is east, z north."""
    folder.mkdir()
    world = make_outdoors(views=1, width=64, height=48).world
    camera, centers = pinhole(280, 210), {}
    for strip, z in enumerate(_STRIPS_Z):
        for number, x in enumerate(_ALONG_X):
            center = np.array([x, 1.6 - FLIGHT_M + 0.3 * np.sin(2 * x), z])
            pose = taken_from(center, np.array([0.95 * x, 1.6, z + 4]), roll=0.02 * np.sin(x))
            picture = photo_bytes(world.picture(camera.K, pose, camera.shape))
            centers[f"DJI_{strip}{number:03d}.JPG"] = center
            Image.fromarray(picture).save(folder / f"DJI_{strip}{number:03d}.JPG", quality=95)
    for name, position in positions_of(centers, noise_m=_GPS_NOISE_M).items():
        exif = Image.Exif()
        diagonal = np.hypot(camera.width, camera.height)
        focal_35mm = round(camera.K[0, 0] / diagonal * np.hypot(36, 24))
        exif.get_ifd(IFD.Exif)[Base.FocalLengthIn35mmFilm] = focal_35mm
        exif.get_ifd(IFD.GPSInfo).update(
            {
                GPS.GPSLatitudeRef: "N",
                GPS.GPSLatitude: _sexagesimal(position.latitude_deg),
                GPS.GPSLongitudeRef: "E",
                GPS.GPSLongitude: _sexagesimal(position.longitude_deg),
                GPS.GPSAltitudeRef: b"\0",
                GPS.GPSAltitude: IFDRational(round(1000 * (position.altitude_m or 0)), 1000),
            }
        )
        with Image.open(folder / name) as picture:
            picture.save(folder / name, quality="keep", exif=exif)


@cache
def project_scene() -> SyntheticScene:
    """What the COLMAP project shows, in metres."""
    return make_scene(views=6, width=240, height=180)


def colmap_project(folder: Path) -> None:
    """`images/` and the model `sparse/0/`."""
    found = project_scene().to_scene(folder / "images")
    (folder / "sparse" / "0").mkdir(parents=True)
    to_reconstruction(found).write(str(folder / "sparse" / "0"))


def film_of_a_tour(path: Path) -> None:
    """A 360 degree camera's video of a room, without metadata that say so."""
    width, frames = 512, make_panoramas(20, 512, samples=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, width // 2, "yuv420p"
        stream.options = {"crf": "14", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        container.mux(stream.encode())


def _sexagesimal(degrees: float) -> tuple[IFDRational, ...]:
    whole, minutes = divmod(round(degrees * 3_600_000), 3_600_000)
    minutes, thousandths = divmod(minutes, 60_000)
    return IFDRational(whole, 1), IFDRational(minutes, 1), IFDRational(thousandths, 1000)
