"""Features of large photos, found by octaves and strips, beside those found at once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from refdepth._pycolmap import pycolmap
from refdepth.sfm import sift
from refdepth.sfm.sift import Sift

WIDTH, HEIGHT = 640, 480


def write_photo(path: Path, seed: int, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Blobs of all sizes."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = sum(
        sigma * gaussian_filter(rng.normal(size=(height, width)), sigma) for sigma in (2, 4, 8)
    )
    picture = 127 + 60 * picture / picture.std()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
    return path


def new_database(path: Path, names: list[str]) -> Path:
    with pycolmap.Database.open(path) as database:
        camera = pycolmap.Camera.create_from_model_name(0, "PINHOLE", 500, WIDTH, HEIGHT)
        camera_id = database.write_camera(camera)
        for name in names:
            database.write_image(pycolmap.Image(name=name, camera_id=camera_id))
    return path


def rows(features: sift.Features) -> list[tuple[float, ...]]:
    """Keypoints (to a thousandth of a pixel) with their descriptors, in an order of their own."""
    together = np.hstack([features.keypoints.round(3), features.descriptors])
    return sorted(map(tuple, together.tolist()))


def finder(**changed: int) -> Sift:
    return Sift(**{"max_features": 8192, "max_image_size": 3200, "threads": 2} | changed)


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sift, "_STRIP_PIXELS", 0)  # down to the fewest rows of a strip


@pytest.mark.usefixtures("small_strips")
def test_strips_give_what_the_whole_photo_gives(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", seed=1)
    whole = tmp_path / "whole.db"
    finder(max_features=65536).find(whole, tmp_path, ["a.png"], None, first_octave=-1, octaves=1)
    expected = sift.read_features(whole, ["a.png"])["a.png"]
    found = finder(max_features=65536, threads=1).finest(tmp_path, tmp_path / "a.png", None)
    assert len(found) == len(expected) > 500
    distances, nearest = cKDTree(expected.keypoints).query(found.keypoints)
    back, _ = cKDTree(found.keypoints).query(expected.keypoints)
    assert max(distances.max(), back.max()) < 1e-3
    difference = expected.descriptors[nearest].astype(int) - found.descriptors
    assert np.abs(difference).max() <= 1


def test_no_two_strips_are_of_one_size_and_each_row_has_one_owner() -> None:
    for height, width in ((2400, 3200), (3200, 2400), (16384, 16384), (500, 5200)):
        strips = sift._strips(height, width)
        sizes = [strip.stop - strip.start for strip, _ in strips]
        assert len(set(sizes)) == len(sizes)
        owners = np.zeros(strips[-1][1].stop, np.int64)
        for strip, own in strips:
            owners[own] += 1
            assert 0 <= strip.start <= max(0, own.start - 40)
            assert strip.stop >= min(height, own.stop + 40)
        assert (owners[:height] == 1).all()


@pytest.mark.parametrize("longest", [3200, 512])
@pytest.mark.usefixtures("small_strips")
def test_features_are_those_of_the_photo_at_once(longest: int, tmp_path: Path) -> None:
    """All that fit in, from the largest on, wherever they are first looked for."""
    write_photo(tmp_path / "a.png", seed=2)
    at_once, by_parts = (new_database(tmp_path / f"{name}.db", ["a.png"]) for name in "sl")
    looking = finder(max_features=4000, max_image_size=longest)
    looking.find(at_once, tmp_path, ["a.png"], None)
    looking.find_large(by_parts, tmp_path, ["a.png"], None, report=lambda done: None)
    expected = sift.read_features(at_once, ["a.png"])["a.png"]
    found = sift.read_features(by_parts, ["a.png"])["a.png"]
    assert len(found) == 4000

    def where(features: sift.Features) -> np.ndarray:
        return np.c_[features.keypoints[:, :2], 8 * np.log2(sift.scales(features))]

    distances, _ = cKDTree(where(expected)).query(where(found))
    assert (distances < 0.5).mean() > 0.9


@pytest.mark.usefixtures("small_strips")
def test_black_pixels_of_a_mask_have_no_features(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", seed=3)
    masks = tmp_path / "masks"
    masks.mkdir()
    usable = np.full((HEIGHT, WIDTH), 255, np.uint8)
    usable[:, : WIDTH // 2] = 0
    Image.fromarray(usable).save(masks / "a.png.png")
    looking = finder(max_features=65536, max_image_size=600)
    fine = looking.finest(tmp_path, tmp_path / "a.png", masks / "a.png.png")
    database = new_database(tmp_path / "a.db", ["a.png"])
    looking.find_large(database, tmp_path, ["a.png"], masks, report=lambda done: None)
    every = sift.read_features(database, ["a.png"])["a.png"]
    assert len(every) > len(fine) > 100
    for found in (fine, every):
        assert found.keypoints[:, 0].min() > WIDTH / 2 - 1


@pytest.mark.usefixtures("small_strips")
def test_a_stop_loses_one_block_and_the_rest_is_found_as_before(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(6)]
    for seed, name in enumerate(names[:-1]):
        write_photo(tmp_path / name, seed=seed, size=(320, 240))
    Image.new("L", (320, 240)).save(tmp_path / names[-1])  # without any feature
    looking = finder(threads=1)
    reference, stopped = (new_database(tmp_path / f"{name}.db", names) for name in "rs")
    told: list[int] = []
    looking.find_large(reference, tmp_path, names, None, report=told.append)
    assert told == [0, 4]

    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        looking.find_large(stopped, tmp_path, names, None, report=stop)
    told.clear()
    looking.find_large(stopped, tmp_path, names, None, report=told.append)
    assert told == [4]
    expected, found = (sift.read_features(path, names) for path in (reference, stopped))
    for name in names:
        assert rows(found[name]) == rows(expected[name])
    assert len(found[names[-1]]) == 0
    told.clear()
    looking.find_large(stopped, tmp_path, names, None, report=told.append)
    assert told == []
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("of_photos", ["find", "find_large"])
def test_a_photo_that_cannot_be_read_is_left_without_features(
    of_photos: str, tmp_path: Path
) -> None:
    names = ["a.png", "b.png"]
    write_photo(tmp_path / "a.png", seed=5)
    (tmp_path / "b.png").write_bytes(b"no picture")
    database = new_database(tmp_path / "a.db", names)
    if of_photos == "find":
        finder().find(database, tmp_path, names, None)
    else:
        finder().find_large(database, tmp_path, names, None, report=lambda done: None)
    with pycolmap.Database.open(database) as opened:
        a, b = (opened.read_image_with_name(name).image_id for name in names)
        assert opened.exists_keypoints(a)
        assert not opened.exists_keypoints(b)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process' peak from /proc")
def test_a_thread_takes_no_more_memory_than_is_said(tmp_path: Path) -> None:
    """In a process of its own, whose peak is that of the features."""
    size = (2000, 1500)
    write_photo(tmp_path / "a.png", seed=4, size=size)
    new_database(tmp_path / "a.db", ["a.png"])
    script = f"""
import re
from pathlib import Path
from refdepth.sfm.sift import Sift
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
folder = Path({str(tmp_path)!r})
Sift(max_features=65536, max_image_size=3200, threads=1).find_large(
    folder / "a.db", folder, ["a.png"], None, report=lambda done: None
)
print(peak() - before)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    taken = int(ended.stdout) * 1024
    said = sift.thread_bytes(size[0] * size[1])
    assert 0.5 * said < taken < 1.1 * said
    assert said < 0.7 * size[0] * size[1] * 320  # what the whole photo would take
