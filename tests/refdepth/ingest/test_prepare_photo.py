"""Photos of any kind become upright 8-bit RGB of the same scene."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from refdepth.errors import InputError
from refdepth.ingest import PreparedPhoto, PrepareSettings, find_duplicates, prepare_photo
from refdepth.ingest.settings import Alpha

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def pixels() -> np.ndarray:
    """A picture without symmetry: red grows right, green down, blue is a patch top left."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    blue = np.where((x < 20) & (y < 10), 200, 30)
    return np.stack([x * 4, y * 5, blue], axis=-1).astype(np.uint8)


def prepare(
    path: Path, folder: Path, settings: PrepareSettings | None = None, **options: Path
) -> tuple[PreparedPhoto, np.ndarray]:
    folder.mkdir(exist_ok=True)
    row = prepare_photo(path, folder / "stem", settings, **options)
    with Image.open(folder / row.name) as picture:
        assert picture.mode == "RGB"
        return row, np.asarray(picture)


def write_png(path: Path, samples: np.ndarray, claimed: tuple[int, int] | None = None) -> None:
    """PNG (height, width, channels) at the depth of `samples`, by the specification: Pillow writes
    no 16-bit colour, and no file that claims another size than it has."""
    channels = samples.shape[2]
    height, width = claimed or samples.shape[:2]
    bits = samples.dtype.itemsize * 8
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in samples)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_an_upright_jpeg_is_kept_byte_for_byte(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.jpeg"
    Image.fromarray(pixels).save(path, quality=90)
    row, _ = prepare(path, tmp_path / "out")
    assert row.copied
    assert row.name == "stem.jpg"
    assert (tmp_path / "out/stem.jpg").read_bytes() == path.read_bytes()
    assert row.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_exif_orientation_comes_out_upright(
    tmp_path: Path, pixels: np.ndarray, suffix: str, orientation: int
) -> None:
    """What is stored is made from the definition: where its first row and column lie in the upright
    picture (EXIF 2.3, tag 0x0112)."""
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    row, found = prepare(path, tmp_path / "out")
    np.testing.assert_array_equal(found, pixels)
    assert row.orientation == orientation
    assert (row.width, row.height) == (WIDTH, HEIGHT)
    assert (row.stored_height, row.stored_width) == stored.shape[:2]
    with Image.open(path) as second_opinion:
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(second_opinion)), found)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_left_alone_where_asked(
    tmp_path: Path, pixels: np.ndarray, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, quality=98)
    row, found = prepare(path, tmp_path / "out", PrepareSettings(upright=False))
    assert (row.width, row.height, row.copied) == (WIDTH, HEIGHT, suffix == "jpg")
    assert (row.stored_width, row.stored_height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(found[..., :2], pixels[..., :2], atol=40)
    if suffix == "tif":
        np.testing.assert_array_equal(found, pixels)


def natural(height: int, width: int) -> np.ndarray:
    """Detail at all sizes and soft colours, as photos have."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for size in (4, 16, 64):
        coarse = rng.normal(size=(height // size + 2, width // size + 2, 3))
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel].astype(np.float32))
            big = layer.resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(big) * size**0.5
    total = 0.8 * total.mean(axis=2, keepdims=True) + 0.2 * total
    return np.clip(128 + 12 * total, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_turned_jpeg_keeps_its_pixels_and_its_size(
    tmp_path: Path, orientation: int, subsampling: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    picture = Image.fromarray(natural(160, 240))
    picture.save(path, exif=exif, quality=91, subsampling=subsampling)
    row, found = prepare(path, tmp_path / "out")
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored), np.float64)
    luma = (found - expected) @ [0.299, 0.587, 0.114]
    assert np.sqrt((luma**2).mean()) < 0.4
    assert np.sqrt(((found - expected) ** 2).mean()) < 1.0
    assert row.name == "stem.jpg"
    assert (tmp_path / "out" / row.name).stat().st_size < 1.25 * path.stat().st_size


def test_a_turned_jpeg_of_odd_size_stays_close(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.fromarray(natural(157, 233)).save(path, exif=exif, quality=91)
    row, found = prepare(path, tmp_path / "out")
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored), np.float64)
    luma = (found - expected) @ [0.299, 0.587, 0.114]
    assert np.sqrt((luma**2).mean()) < 0.8
    assert (tmp_path / "out" / row.name).stat().st_size < 1.8 * path.stat().st_size


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.png"
    write_png(path, pixels.astype(np.uint16) * 257)
    _, found = prepare(path, tmp_path / "out")
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    grey = pixels[..., 0].astype(np.uint16) * 257
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        write_png(path, grey[..., None])
    else:
        Image.fromarray(grey).save(path)
    _, found = prepare(path, tmp_path / "out")
    np.testing.assert_array_equal(found, np.repeat(pixels[..., :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("L", "LA", "RGBA", "P", "1")),
        *(("tif", mode) for mode in ("RGB", "CMYK", "L")),
        *(("jpg", mode) for mode in ("L", "CMYK")),
        ("webp", "RGB"),
        ("bmp", "RGB"),
        ("gif", "P"),
        ("ppm", "RGB"),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    tmp_path: Path, pixels: np.ndarray, suffix: str, mode: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(pixels).convert(mode).save(path, **options)
    row, found = prepare(path, tmp_path / "out")
    assert row.name == "stem.png"
    assert found.shape == pixels.shape
    with Image.open(path) as picture:
        np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")))


def test_heic_is_read_upright(tmp_path: Path, pixels: np.ndarray) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    heif = pillow_heif.from_pillow(Image.fromarray(pixels))
    heif.save(path, quality=-1)
    row, found = prepare(path, tmp_path / "out")
    assert row.name == "stem.jpg"
    assert np.abs(found.astype(int) - pixels).mean() < 3  # chroma is stored at half resolution


def test_png_output_has_the_same_bytes_every_time(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(pixels).save(path, lossless=True)
    contents = set()
    for name in ("one", "two"):
        prepare(path, tmp_path / name)
        contents.add((tmp_path / name / "stem.png").read_bytes())
    assert len(contents) == 1
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["stem.png"]


def test_the_first_picture_of_an_animation_is_used_with_a_warning(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / "a.webp"
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    first.save(path, save_all=True, append_images=[second], lossless=True)
    row, found = prepare(path, tmp_path / "out")
    np.testing.assert_array_equal(found, pixels)
    assert "holds 2 pictures" in row.warnings[0]


def test_transparent_pixels_become_a_mask(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:10] = 0
    alpha[10] = 1
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([pixels, alpha])).save(path)
    row, found = prepare(path, tmp_path / "out", mask_folder=tmp_path)
    np.testing.assert_array_equal(found, pixels)
    assert row.mask == "stem.png.png"
    with Image.open(tmp_path / row.mask) as mask:
        np.testing.assert_array_equal(np.asarray(mask) == 255, alpha > 0)
    ignoring = PrepareSettings(alpha=Alpha.IGNORE)
    assert prepare(path, tmp_path / "out", ignoring, mask_folder=tmp_path)[0].mask is None


def test_large_photos_are_shrunk_where_asked(tmp_path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 36
    path = tmp_path / "a.jpg"
    Image.fromarray(np.tile(pixels, (3, 3, 1))).save(path, exif=exif)
    full, _ = prepare(path, tmp_path / "out")
    small, found = prepare(path, tmp_path / "out", PrepareSettings(max_size=96))
    assert found.shape == (72, 96, 3)
    assert (small.stored_width, small.stored_height) == (192, 144)
    assert small.focal_px == pytest.approx(full.focal_px / 2)


@pytest.mark.parametrize("keep", [0, 30, 500])
def test_truncated_files_are_refused(tmp_path: Path, pixels: np.ndarray, keep: int) -> None:
    for suffix in ("jpg", "png", "tif", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(np.tile(pixels, (4, 4, 1))).save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError) as caught:
            prepare(path, tmp_path / "out")
        assert caught.value.subject == str(path)
    assert not list((tmp_path / "out").iterdir())


def test_the_first_picture_is_used_where_the_ones_behind_it_are_cut_short(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / "a.tif"
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    first.save(path)
    one = len(path.read_bytes())
    first.save(path, save_all=True, append_images=[second])
    whole = path.read_bytes()
    told = set()
    for keep in range(one, len(whole) - 1, 500):
        path.write_bytes(whole[:keep])
        row, found = prepare(path, tmp_path / "out")
        np.testing.assert_array_equal(found, pixels)
        told.update(row.warnings)
    assert "holds further pictures, which are damaged; the first is used" in told


def test_a_damaged_avif_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    place = content.index(b"iloc")  # where the picture's data lie
    path.write_bytes(content[: place + 4] + bytes(16) + content[place + 20 :])
    with pytest.raises(InputError) as caught:
        prepare(path, tmp_path / "out")
    assert caught.value.subject == str(path)


def test_a_picture_beyond_the_pixel_limit_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    side = 50_000
    write_png(path, np.zeros((1, 1, 1), np.uint8), claimed=(side, side))
    with pytest.raises(InputError, match=r"refused|limit"):
        prepare(path, tmp_path / "out")
    settings = PrepareSettings(max_megapixels=0.001)
    ordinary = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(ordinary)
    with pytest.raises(InputError, match="exceed the limit"):
        prepare(ordinary, tmp_path / "out", settings)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Image.new("RGB", (640, 4)), "too few"),
        (Image.new("F", (64, 64)), "floating-point"),
        (Image.new("I", (64, 64), 2**20), "32-bit"),
    ],
)
def test_pictures_without_fixed_range_or_size_are_refused(
    tmp_path: Path, picture: Image.Image, reason: str
) -> None:
    picture.save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=reason):
        prepare(tmp_path / "a.tif", tmp_path / "out")


def test_equal_files_and_equal_pixels_are_duplicates(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "out").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    Image.fromarray(pixels).save(tmp_path / "c.webp", lossless=True)
    Image.fromarray(pixels[::-1].copy()).save(tmp_path / "d.png")
    rows = [
        prepare_photo(tmp_path / name, tmp_path / "out" / name[0])
        for name in ("a.png", "b.png", "c.webp", "d.png")
    ]
    assert find_duplicates(rows) == {"b.png": "a.png", "c.png": "a.png"}


def test_rows_survive_json(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    row, _ = prepare(tmp_path / "a.png", tmp_path / "out")
    assert PreparedPhoto.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_a_photo_is_converted_once(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    convert, converted = Image.Image.convert, []

    def counting(picture: Image.Image, mode: str, **options: object) -> Image.Image:
        converted.append(mode)
        return convert(picture, mode, **options)

    monkeypatch.setattr(Image.Image, "convert", counting)
    prepare_photo(tmp_path / "grey.png", tmp_path / "made")
    assert converted == ["RGB"]
