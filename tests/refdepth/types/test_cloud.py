"""Point clouds as values."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from refdepth.types.cloud import PointCloud


def cloud(count: int) -> PointCloud:
    rng = np.random.default_rng(count)
    return PointCloud(
        points=rng.normal(size=(count, 3)).astype(np.float32),
        normals=np.zeros((count, 3), np.float32),
        colors=rng.integers(0, 256, (count, 3)).astype(np.uint8),
        confidence=rng.uniform(size=count).astype(np.float32),
    )


def test_thinning_is_even_repeatable_and_keeps_small_clouds() -> None:
    whole = cloud(20_000)
    few = whole.thinned(500)
    assert len(few) == 500
    assert_array_equal(few.points, whole.thinned(500).points)
    spread = few.points.mean(axis=0) - whole.points.mean(axis=0)
    assert (np.abs(spread) < 0.2 * whole.points.std(axis=0)).all()
    assert whole.thinned(len(whole)) is whole


def test_selected_points_keep_their_colour_and_confidence() -> None:
    whole = cloud(9)
    by_mask = whole.select(whole.confidence > np.median(whole.confidence))
    rows = np.flatnonzero(whole.confidence > np.median(whole.confidence))
    assert len(by_mask) == 4
    for name in ("points", "normals", "colors", "confidence"):
        assert_array_equal(getattr(by_mask, name), getattr(whole, name)[rows])
        assert_array_equal(getattr(whole.select(rows), name), getattr(by_mask, name))


def test_joined_pieces_are_the_whole_and_nothing_joined_is_empty() -> None:
    whole = cloud(7)
    parts = [whole.select(np.arange(3)), whole.select(np.arange(3, 7))]
    assert_array_equal(PointCloud.concatenate(parts).points, whole.points)
    assert len(PointCloud.concatenate([])) == 0
