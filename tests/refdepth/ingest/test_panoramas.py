"""Telling panoramas from photos, and the faces cut from them, against exact directions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest.exif import CameraHint
from refdepth.ingest.panoramas import (
    FACE_FROM_PANORAMA,
    Face,
    Projection,
    cut_faces,
    cut_mask,
    face_focal_px,
    face_size,
    is_panorama,
    stated_projection,
)
from refdepth.ingest.settings import Panoramas
from refdepth.synthetic import make_panoramas

Array = NDArray[np.float64]
WHOLE = Projection(name="equirectangular", whole=True)

AXES = {
    Face.FRONT: ([0, 0, 1], [1, 0, 0]),
    Face.RIGHT: ([1, 0, 0], [0, 0, -1]),
    Face.BACK: ([0, 0, -1], [-1, 0, 0]),
    Face.LEFT: ([-1, 0, 0], [0, 0, 1]),
    Face.UP: ([0, -1, 0], [1, 0, 0]),
    Face.DOWN: ([0, 1, 0], [1, 0, 0]),
}
"""Where each face looks, and what is to its right, in the panorama's axes."""


def sphere(width: int) -> Array:
    """Directions (H, W, 3) of the pixels of a panorama."""
    longitude = 2 * np.pi * ((np.arange(width) + 0.5) / width - 0.5)
    latitude = (np.pi * ((np.arange(width // 2) + 0.5) / (width // 2) - 0.5))[:, None]
    return np.stack(
        [
            np.cos(latitude) * np.sin(longitude),
            np.broadcast_to(np.sin(latitude), (width // 2, width)),
            np.cos(latitude) * np.cos(longitude),
        ],
        axis=-1,
    )


def face_rays(face: Face, side: int) -> Array:
    """Unit directions (side, side, 3) of a face's pixels, from its field of view and axes."""
    look, right = (np.array(axis, float) for axis in AXES[face])
    reach = np.tan(np.deg2rad(94 / 2))
    slope = reach * (2 * (np.arange(side) + 0.5) / side - 1)
    rays = look + slope[:, None] * right + slope[:, None, None] * np.cross(look, right)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def pattern(rays: Array, waves: float = 12) -> NDArray[np.uint8]:
    """A picture with detail in all directions: a pixel off is several levels off."""
    return np.round(127.5 + 120 * np.sin(waves * rays)).astype(np.uint8)


@pytest.mark.parametrize("face", Face)
def test_every_pixel_of_a_face_shows_its_own_direction(face: Face) -> None:
    width = 1024
    side = face_size(width, None)
    cut = dict(cut_faces(Image.fromarray(pattern(sphere(width))), side))
    off = np.abs(np.asarray(cut[face]).astype(int) - pattern(face_rays(face, side)))
    # A tenth of a pixel is a level here, and both pictures are rounded.
    assert off.max() <= 2
    assert off.mean() < 0.5


def test_faces_equal_pictures_rendered_with_their_cameras() -> None:
    (panorama,) = make_panoramas(1, 768)
    side = face_size(768, 200)
    focal = face_focal_px(side)
    K = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    off, shifted = [], []
    for face, cut in cut_faces(Image.fromarray(panorama.image), side):
        pose = panorama.world_from_panorama.copy()
        look, right = (np.array(axis, float) for axis in AXES[face])
        pose[:3, :3] = pose[:3, :3] @ np.stack([right, np.cross(look, right), look], axis=1)
        rendered = 255 * panorama.world.picture(K, pose, (side, side)).clip(0, 1)
        off.append(np.abs(np.asarray(cut) - rendered).mean())
        shifted.append(np.abs(np.asarray(cut)[:, 1:] - rendered[:, :-1]).mean())
    assert max(off) < 3  # noise and the edges of things
    assert np.mean(off) < 0.5 * np.mean(shifted), (off, shifted)


def test_a_panorama_with_more_pixels_than_the_faces_take_is_not_aliased() -> None:
    checks = np.indices((1024, 2048)).sum(axis=0) % 2 * 255
    fine = Image.fromarray(np.repeat(checks[..., None], 3, axis=-1).astype(np.uint8))
    for _, face in cut_faces(fine, 100):
        assert np.abs(np.asarray(face).astype(int) - 127).max() < 12


def test_the_faces_cover_the_sphere_and_overlap() -> None:
    rays = sphere(256).reshape(-1, 3)
    reach = np.tan(np.deg2rad(47))
    seen = np.zeros(len(rays), int)
    for turn in FACE_FROM_PANORAMA.values():
        x, y, z = (rays @ turn.T).T
        seen += (z > 0) & (np.abs(x) <= reach * z) & (np.abs(y) <= reach * z)
    assert seen.min() == 1
    assert seen.max() == 3


def test_masks_are_cut_where_the_picture_is() -> None:
    rays = sphere(512)
    side = 120
    hidden = np.where(rays[..., 1] > 0, 0, 255).astype(np.uint8)  # all below the horizon
    for face in Face:
        expected = np.where(face_rays(face, side)[..., 1] > 0, 0, 255)
        assert (cut_mask(hidden, face, side) != expected).mean() < 0.002, face


HINT, FOCAL = CameraHint(), CameraHint(focal_px=300.0)


def picture(width: int, height: int, *, meets: bool = True) -> Image.Image:
    """A picture whose left and right sides meet, or do not."""
    x = np.linspace(0, 2 * np.pi if meets else 2.3 * np.pi, width, endpoint=False)
    grey = 127 + 60 * np.sin(x) + 40 * np.cos(3 * x)
    return Image.fromarray(np.tile(grey, (height, 1)).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(
    ("given", "stated", "hint", "wanted", "expected"),
    [
        (picture(400, 200), None, HINT, Panoramas.AUTO, True),
        (picture(401, 200), None, HINT, Panoramas.AUTO, True),
        (picture(400, 300), None, HINT, Panoramas.AUTO, False),
        (picture(400, 200, meets=False), None, HINT, Panoramas.AUTO, False),
        (picture(400, 200), None, FOCAL, Panoramas.AUTO, False),
        (picture(400, 200), None, HINT, Panoramas.NO, False),
        (picture(400, 200, meets=False), WHOLE, FOCAL, Panoramas.AUTO, True),
        (picture(400, 200), WHOLE, HINT, Panoramas.NO, False),
        (
            picture(400, 200),
            Projection(name="cylindrical", whole=True),
            HINT,
            Panoramas.AUTO,
            False,
        ),
        (picture(400, 200, meets=False), None, FOCAL, Panoramas.YES, True),
    ],
)
def test_panoramas_are_told_from_photos(
    given: Image.Image,
    stated: Projection | None,
    hint: CameraHint,
    wanted: Panoramas,
    expected: bool,
) -> None:
    assert is_panorama(given, stated, hint, wanted) is expected


@pytest.mark.parametrize(
    ("given", "stated", "wanted", "message"),
    [
        (picture(400, 150), WHOLE, Panoramas.AUTO, r"equirectangular, but 400x150.*=no"),
        (
            picture(400, 200),
            Projection(name="equirectangular", whole=False),
            Panoramas.AUTO,
            r"a part of a panorama",
        ),
        (picture(400, 150), None, Panoramas.YES, r"400x150 is no 360 degree.*is yes"),
    ],
)
def test_odd_ratios_and_parts_are_refused(
    given: Image.Image, stated: Projection | None, wanted: Panoramas, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        is_panorama(given, stated, HINT, wanted)


def test_a_blank_picture_is_a_photo() -> None:
    assert not is_panorama(Image.new("RGB", (400, 200)), None, HINT, Panoramas.AUTO)


@pytest.mark.parametrize("spelt", ["attributes", "elements"])
@pytest.mark.parametrize("cropped", [4000, 3000])
def test_projection_is_read_from_xmp(spelt: str, cropped: int) -> None:
    fields = {
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": 4000,
        "FullPanoHeightPixels": 2000,
        "CroppedAreaImageWidthPixels": cropped,
        "CroppedAreaImageHeightPixels": 2000,
    }
    if spelt == "attributes":
        inner = "<Description " + " ".join(f'GPano:{k}="{v}"' for k, v in fields.items()) + "/>"
    else:
        inner = "".join(f"<GPano:{k}>{v}</GPano:{k}>\n" for k, v in fields.items())
    given = picture(400, 200)
    assert stated_projection(given) is None
    given.info["xmp"] = inner.encode()
    assert stated_projection(given) == Projection(name="equirectangular", whole=cropped == 4000)
