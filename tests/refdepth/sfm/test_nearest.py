"""Matching: each other's nearest neighbours, as pycolmap's exhaustive search on one thread."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdepth._pycolmap import pycolmap
from refdepth.sfm.nearest import match_pairs, mutual_matches


def descriptors(*rows: dict[int, int]) -> np.ndarray:
    """Descriptors that are zero but for the given elements."""
    made = np.zeros((len(rows), 128), np.uint8)
    for row, elements in zip(made, rows, strict=True):
        for place, value in elements.items():
            row[place] = value
    return made


def features(opened: Any) -> dict[int, np.ndarray]:
    return {
        image.image_id: np.array(opened.read_descriptors(image.image_id).data, np.uint8)
        for image in opened.read_all_images()
    }


@pytest.fixture
def unmatched(photo_set, tmp_path: Path) -> Path:
    """A database with features only."""
    shutil.copy(photo_set.out / "database.db", tmp_path)
    with pycolmap.Database.open(tmp_path / "database.db") as opened:
        opened.clear_matches()
        opened.clear_two_view_geometries()
    return tmp_path / "database.db"


def test_matches_are_those_of_an_exhaustive_search(unmatched: Path) -> None:
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu = False
    options.num_threads = 1
    options.sift.cpu_brute_force_matcher = True
    matcher = pycolmap.FeatureMatcher.create(options, pycolmap.Device.cpu)
    with pycolmap.Database.open(unmatched) as opened:
        found = features(opened)
        assert sum(len(each) > 256 for each in found.values()) > 2  # several blocks of rows
        for pair in itertools.permutations(found, 2):
            kept = [
                pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, found[image])
                for image in pair
            ]
            truth = matcher.match(None, kept[0], None, kept[1])
            assert len(truth) > 0
            np.testing.assert_array_equal(mutual_matches(*(found[i] for i in pair)), truth)


def test_only_what_is_clearly_nearest_both_ways_matches() -> None:
    full, part = 255, 252
    first = descriptors(
        {0: full, 1: full, 2: full, 3: full},  # as the first of the others
        {10: full, 11: full, 12: full, 13: full},  # two of the others are as near
        {20: part, 21: full, 22: full, 23: full},  # nearest to one that the next is nearer to
        {20: full, 21: full, 22: full, 23: full},
        {40: full, 41: full, 42: full, 43: full},  # far from all
    )
    second = descriptors(
        {0: full, 1: full, 2: full, 3: full},
        {10: full, 11: full, 12: full, 13: full},
        {10: full, 11: full, 12: full, 13: full},
        {20: full, 21: full, 22: full, 23: full, 24: 60},
        {50: full, 51: full, 52: full, 53: full},
    )
    np.testing.assert_array_equal(mutual_matches(first, second), [[0, 0]])
    # Without its rival (0.147 rad off, it 0.125) the next one matches.
    np.testing.assert_array_equal(mutual_matches(first[[0, 3]], second), [[0, 0], [1, 3]])


@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)])
def test_photos_without_features_have_no_matches(counts: tuple[int, int]) -> None:
    found = mutual_matches(*(np.full((count, 128), 45, np.uint8) for count in counts))
    assert found.shape == (0, 2)
    assert found.dtype == np.uint32


def test_threads_and_the_order_of_a_pair_change_nothing_and_what_is_there_is_kept(
    unmatched: Path,
) -> None:
    with pycolmap.Database.open(unmatched) as opened:
        images = sorted(features(opened))
        opened.write_matches(images[0], images[1], [[7, 5]])
    pairs = list(itertools.combinations(images, 2))
    other = shutil.copy(unmatched, unmatched.with_name("other.db"))
    told: list[int] = []
    match_pairs(unmatched, pairs, threads=1, report=told.append)
    backwards = [(b, a) for a, b in reversed(pairs)]
    match_pairs(other, backwards, threads=8, report=lambda done: None)
    assert told == [1, 9]  # of 15: one that was there, and eight at once
    with pycolmap.Database.open(unmatched) as one, pycolmap.Database.open(other) as two:
        np.testing.assert_array_equal(one.read_matches(images[0], images[1]), [[7, 5]])
        for pair in pairs:
            np.testing.assert_array_equal(one.read_matches(*pair), two.read_matches(*pair))
