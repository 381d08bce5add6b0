"""How many threads look for features, and what is said where memory is short."""

import logging
from pathlib import Path

import pytest

from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm import features
from refdepth.sfm.settings import SfmSettings

PHOTO = PreparedPhoto(
    name="a.jpg", original="a.jpg", width=3200, height=2400, stored_width=3200, stored_height=2400
)


@pytest.mark.parametrize(("memory_mb", "threads", "warned"), [(6000, 2, False), (1000, 1, True)])
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
            [PHOTO],
            SfmSettings(),
            threads=4,
            memory_mb=memory_mb,
        )
    assert asked["threads"] == threads
    assert bool(caplog.messages) == warned
    assert all("sfm.feature_image_size (3200)" in message for message in caplog.messages)
