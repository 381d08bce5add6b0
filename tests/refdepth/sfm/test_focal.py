"""The focal length that a camera starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refdepth.ingest import PreparedPhoto
from refdepth.sfm.database import initial_camera
from refdepth.sfm.focal import FocalSource, focal_start, photos_to_ask
from refdepth.sfm.settings import CameraModel, SfmSettings

SETTINGS = SfmSettings()


def photos(count: int, **facts: object) -> list[PreparedPhoto]:
    size = {"width": 400, "height": 300, "stored_width": 400, "stored_height": 300}
    return [
        PreparedPhoto(name=f"{n:03d}.png", original=f"{n:03d}.png", **size, **facts)  # type: ignore[arg-type]
        for n in range(count)
    ]


def test_exif_goes_before_the_network_and_the_network_before_a_guess() -> None:
    group = photos(3)
    told = {"000.png": 300.0, "001.png": 310.0, "002.png": 900.0}
    guess = focal_start(group, SETTINGS, {})
    assert (guess.source, guess.focal_px, guess.told_by) == (FocalSource.GUESS, 480, 0)
    seen = focal_start(group, SETTINGS, told)  # the median: one that is far off does not count
    assert (seen.source, seen.focal_px, seen.told_by) == (FocalSource.NETWORK, 310, 3)
    assert seen.spread == pytest.approx(0.0328, abs=1e-4)  # log(310 / 300)
    with_exif = [replace(group[0], focal_px=500.0), *group[1:]]
    known = focal_start(with_exif, SETTINGS, told)
    assert (known.source, known.focal_px, known.told_by) == (FocalSource.EXIF, 500, 1)
    distrusted = SETTINGS.model_copy(update={"use_exif_focal": False})
    assert focal_start(with_exif, distrusted, told).source == FocalSource.NETWORK


def test_the_camera_has_it_and_only_exif_is_trusted() -> None:
    group = photos(2)
    start = focal_start(group, SETTINGS, {"001.png": 333.0})
    camera = initial_camera(group, SETTINGS, start)
    assert camera.focal_length == 333
    assert not camera.has_prior_focal_length
    group = photos(2, focal_px=350.0)
    camera = initial_camera(group, SETTINGS, focal_start(group, SETTINGS, {}))
    assert camera.focal_length == 350
    assert camera.has_prior_focal_length


def test_few_photos_of_each_camera_without_exif_are_asked_about() -> None:
    without = photos(100)
    known = [replace(one, name=f"e{one.name}", camera_key="x", focal_px=300.0) for one in without]
    small = [replace(one, name=f"s{one.name}", width=200) for one in photos(2)]
    names = photos_to_ask([*without, *known, *small], SETTINGS)
    of_many = [name for name in names if name[0] == "0"]
    assert 5 <= len(of_many) <= 15
    assert (of_many[0], of_many[-1]) == ("000.png", "099.png")
    assert [name for name in names if name not in of_many] == ["s000.png", "s001.png"]
    fisheye = SETTINGS.model_copy(update={"camera_model": CameraModel.OPENCV_FISHEYE})
    assert photos_to_ask(without, fisheye) == []
