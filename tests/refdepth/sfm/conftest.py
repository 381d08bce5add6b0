"""A small synthetic photo set and its reconstruction, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from refdepth.ingest import PreparedPhoto, find_photos, prepare_photo, safe_stems
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.summary import SfmSummary
from refdepth.synthetic import SyntheticScene, make_scene


@dataclass(frozen=True)
class PhotoSet:
    """Prepared photos of a synthetic scene and what SfM makes of them."""

    truth: SyntheticScene
    images: Path
    photos: list[PreparedPhoto]
    out: Path
    summary: SfmSummary


def prepare_folder(source: Path, images: Path) -> list[PreparedPhoto]:
    """The table of all photos in `source`, prepared into `images`."""
    images.mkdir(parents=True, exist_ok=True)
    found = find_photos(source).candidates
    stems = safe_stems([one.original for one in found])
    return [
        prepare_photo(one.path, images / stems[one.original], original=one.original)
        for one in found
    ]


@pytest.fixture(scope="session")
def prepare() -> Callable[[Path, Path], list[PreparedPhoto]]:
    """`prepare_folder`."""
    return prepare_folder


@pytest.fixture(scope="session")
def photo_set(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """Six photos of the synthetic room, reconstructed."""
    folder = tmp_path_factory.mktemp("photo_set")
    truth = make_scene(views=6, width=320, height=240)
    truth.write_photos(folder / "given")
    photos = prepare_folder(folder / "given", folder / "images")
    summary = reconstruct(folder / "images", photos, folder / "sfm")
    return PhotoSet(truth, folder / "images", photos, folder / "sfm", summary)
