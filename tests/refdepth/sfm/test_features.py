"""How many threads look for features, and what is said where memory is short."""

import logging
from pathlib import Path

import pytest

from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm import features
from refdepth.sfm.settings import SfmSettings


def photo(name: str, width: int, height: int) -> PreparedPhoto:
    size = {"width": width, "height": height, "stored_width": width, "stored_height": height}
    return PreparedPhoto(name=name, original=name, **size)


PHOTOS = [photo("large.jpg", 6400, 4800), photo("small.jpg", 1600, 1200)]
"""Of which one is looked at at 3200x2400; each then takes about 0.6 GB."""


@pytest.mark.parametrize(("memory_mb", "threads", "warned"), [(1300, 2, False), (500, 1, True)])
def test_one_thread_works_in_any_case_and_too_much_is_said(
    memory_mb: float,
    threads: int,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = {}
    monkeypatch.setattr(features, "run_step", lambda step, **arguments: asked.update(arguments))
    with caplog.at_level(logging.WARNING):
        features.extract_features(
            tmp_path / "database.db",
            tmp_path,
            PHOTOS,
            SfmSettings(),
            threads=4,
            memory_mb=memory_mb,
        )
    assert (asked["names"], asked["large"]) == (["small.jpg"], ["large.jpg"])
    assert (asked["threads"], asked["threads_large"]) == (threads, threads)
    assert bool(caplog.messages) == warned
    assert all("sfm.feature_image_size (3200)" in message for message in caplog.messages)
