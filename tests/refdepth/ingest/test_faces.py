"""Panoramas, their masks and films of them as prepared faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_panoramas import HEIGHT, WIDTH, say_spherical, sphere, write_film

from refdepth.errors import InputError
from refdepth.ingest import NameTable, PreparedPhoto, PrepareSettings, prepare_picture
from refdepth.ingest.masks import prepare_mask, prepare_panorama_mask
from refdepth.ingest.panoramas import Face, cut_faces, face_focal_px, face_size
from refdepth.ingest.settings import Panoramas
from refdepth.ingest.video import prepare_video

SIDE = face_size(WIDTH, None)
FACES = ("front", "right", "back", "left", "up", "down")


def prepared(
    path: Path, folder: Path, original: str = "walk/a.png", **settings: object
) -> list[PreparedPhoto]:
    folder.mkdir(exist_ok=True)
    return prepare_picture(
        path,
        folder / "walk_a",
        PrepareSettings.model_validate(settings),
        original=original,
        mask_folder=folder,
    )


@pytest.fixture
def panorama(tmp_path: Path) -> Path:
    """A panorama without metadata."""
    Image.fromarray(sphere()).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_panorama_becomes_six_named_faces(panorama: Path, tmp_path: Path) -> None:
    rows = prepared(panorama, tmp_path / "out")
    assert [row.name for row in rows] == [f"walk_a_{face}.png" for face in FACES]
    assert [row.original for row in rows] == [f"walk/a/{face}.png" for face in FACES]
    cut = dict(cut_faces(Image.fromarray(sphere()), SIDE))
    for row, face in zip(rows, Face, strict=True):
        assert row.face is not None
        assert (row.given, row.face.face, row.mask) == ("walk/a.png", face, None)
        assert row.upright_size == (row.width, row.height) == (SIDE, SIDE)
        assert row.face.upright_size == (WIDTH, HEIGHT)
        assert row.focal_px == face_focal_px(SIDE)
        assert PreparedPhoto.from_dict(row.to_dict()) == row
        with Image.open(tmp_path / "out" / row.name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(cut[face]))
    assert len({row.pixel_hash for row in rows}) == 6  # equal skies are no duplicates


def test_a_jpeg_that_says_what_it_is_gives_jpegs(tmp_path: Path) -> None:
    blank = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    xmp = b'<d GPano:ProjectionType="equirectangular"/>'
    Image.fromarray(blank).save(tmp_path / "a.jpg", quality=90, xmp=xmp)
    rows = prepared(tmp_path / "a.jpg", tmp_path / "out", "a.jpg")
    assert [row.original for row in rows] == [f"a/{face}.jpg" for face in FACES]
    for row in rows:
        with Image.open(tmp_path / "out" / row.name) as picture:
            assert (picture.format, picture.size) == ("JPEG", (SIDE, SIDE))


def test_faces_are_limited_one_by_one(panorama: Path, tmp_path: Path) -> None:
    rows = prepared(panorama, tmp_path / "out", max_size=64)
    assert {(row.width, row.height, row.focal_px) for row in rows} == {(64, 64, face_focal_px(64))}


def test_an_upside_down_panorama_is_turned_first(tmp_path: Path) -> None:
    Image.fromarray(sphere()).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(sphere()[::-1, ::-1]).save(tmp_path / "b.png", exif=exif)
    for one, other in zip(
        prepared(tmp_path / "a.png", tmp_path / "straight"),
        prepared(tmp_path / "b.png", tmp_path / "turned"),
        strict=True,
    ):
        assert (tmp_path / "straight" / one.name).read_bytes() == (
            tmp_path / "turned" / other.name
        ).read_bytes()
        assert other.face is not None
        assert (other.orientation, other.face.orientation) == (1, 3)


@pytest.mark.parametrize(
    ("size", "wanted", "message"),
    [((300, 100), Panoramas.YES, "300x100 is no 360"), ((300, 100), Panoramas.AUTO, None)],
)
def test_what_is_not_twice_as_wide_as_high(
    tmp_path: Path, size: tuple[int, int], wanted: Panoramas, message: str | None
) -> None:
    Image.fromarray(sphere()).resize(size).save(tmp_path / "a.png")
    if message is None:
        (row,) = prepared(tmp_path / "a.png", tmp_path / "out", panoramas=wanted)
        assert row.face is None
    else:
        with pytest.raises(InputError, match=message):
            prepared(tmp_path / "a.png", tmp_path / "out", panoramas=wanted)


def test_transparency_hides_what_it_covers(tmp_path: Path) -> None:
    pixels = np.dstack([sphere(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[HEIGHT * 3 // 4 :, :, 3] = 0  # a tripod: 45 degrees down and more
    Image.fromarray(pixels).save(tmp_path / "a.png")
    masks = {row.face.face: row.mask for row in prepared(tmp_path / "a.png", tmp_path) if row.face}
    assert masks[Face.UP] is None
    # A circle of radius tan(45) in a face of half a side tan(47); little of those at the sides.
    circle = np.pi / 4 / np.tan(np.deg2rad(47)) ** 2
    for face, share in ((Face.DOWN, 1 - circle), (Face.FRONT, 0.99)):
        mask = np.asarray(Image.open(tmp_path / str(masks[face])))
        assert (mask > 0).mean() == pytest.approx(share, abs=0.01), face


def test_a_mask_of_a_panorama_is_cut_into_those_of_its_faces(
    panorama: Path, tmp_path: Path
) -> None:
    rows = prepared(panorama, tmp_path / "out")
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, : WIDTH // 2] = 0  # all to the left
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = {one.photo: one for one in prepare_panorama_mask(tmp_path / "mask.png", rows, tmp_path)}
    shares = [found[row.name].used_share for row in rows]
    np.testing.assert_allclose(shares, [0.5, 1, 0.5, 0, 0.5, 0.5], atol=0.02)
    front = np.asarray(Image.open(tmp_path / "walk_a_front.png.png"))
    assert not front[:, : SIDE // 2 - 1].any()
    assert front[:, SIDE // 2 + 1 :].all()
    assert all(one.warning is None for one in found.values())


def test_a_mask_must_have_the_size_of_its_panorama(panorama: Path, tmp_path: Path) -> None:
    rows = prepared(panorama, tmp_path / "out")
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"{SIDE}x{SIDE}.*{WIDTH}x{HEIGHT} \(walk/a.png\)"):
        prepare_panorama_mask(tmp_path / "mask.png", rows, tmp_path)
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="its photo"):  # a face's own mask is of its size
        prepare_mask(tmp_path / "mask.png", rows[0], tmp_path)


def test_a_panorama_means_its_faces_by_name(panorama: Path, tmp_path: Path) -> None:
    rows = prepared(panorama, tmp_path / "out")
    photo = PreparedPhoto(
        name="b.png", original="b.png", width=9, height=9, stored_width=9, stored_height=9
    )
    names = NameTable.of([*rows, photo])
    everything = {row.name for row in rows}
    for pattern in ("walk/a.png", "a.png", "walk/a", "a"):
        assert set(names.select(pattern)) == everything, pattern
    assert names.select("walk/a/up.png") == ("walk_a_up.png",)
    assert names.meant("elsewhere/walk/a/up.jpg") == "walk_a_up.png"
    given = NameTable.as_given([*rows, photo])
    (tmp_path / "masks" / "walk").mkdir(parents=True)
    (tmp_path / "masks" / "walk" / "a.png").write_bytes(b"x")
    assert set(given.files(tmp_path / "masks", [".png"]).files) == {"walk/a.png"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av")
    return write_film(tmp_path_factory.mktemp("film") / "clip.mp4", sphere())


def test_frames_of_a_360_degree_film_become_faces(film: Path, tmp_path: Path) -> None:
    found = prepare_video(film, tmp_path / "clip", original="walk/clip.mp4")
    assert len(found.frames) >= 6 * 5
    for first in range(0, len(found.frames), 6):
        rows = found.frames[first : first + 6]
        assert len({row.given for row in rows}) == 1
        number = rows[0].frame["index"] if rows[0].frame else None
        for row, face in zip(rows, FACES, strict=True):
            assert row.original == f"walk/clip.mp4#{number:06d}/{face}.png"
            assert row.name == f"clip_{number:06d}_{face}.png"
            assert (row.sequence, row.frame) == ("walk/clip.mp4", rows[0].frame)
            with Image.open(tmp_path / row.name) as picture:
                assert picture.size == (SIDE, SIDE)
    # The film turns to the right by 4 pixels a frame: what was in front is on the left later.
    before, after = (
        np.asarray(Image.open(tmp_path / found.frames[k].name)).astype(float) for k in (0, 6)
    )
    assert np.abs(before - after).mean() > 5


def test_a_film_is_believed_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = write_film(tmp_path / "a.mp4", np.full((HEIGHT, WIDTH, 3), 99, np.uint8), frames=4)
    assert all(row.face is None for row in prepare_video(film, tmp_path / "plain").frames)
    say_spherical(film)
    assert all(row.face is not None for row in prepare_video(film, tmp_path / "said").frames)
    unasked = prepare_video(film, tmp_path / "no", PrepareSettings(panoramas=Panoramas.NO))
    assert all(row.face is None for row in unasked.frames)


def test_a_film_of_odd_ratio_is_refused_where_all_are_panoramas(film: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "odd.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    settings = PrepareSettings(panoramas=Panoramas.YES)
    with pytest.raises(InputError, match="96x64 is no 360"):
        prepare_video(tmp_path / "odd.mp4", tmp_path / "odd", settings)
