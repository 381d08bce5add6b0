"""Which pairs of photos are matched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from refdepth.errors import InputError
from refdepth.ingest import PreparedPhoto
from refdepth.ingest.exif import GpsPosition
from refdepth.sfm.pairs import EXHAUSTIVE_LIMIT, plan_pairs, positions_m, sequential_pairs
from refdepth.sfm.settings import Matching, SfmSettings

MANY = EXHAUSTIVE_LIMIT + 10
METRES_PER_DEGREE = 6_371_000 * np.pi / 180


def photo(
    name: str, sequence: str = "", position: tuple[float, float] | None = None
) -> PreparedPhoto:
    size = {"width": 60, "height": 40, "stored_width": 60, "stored_height": 40}
    place = None
    if position is not None:
        place = GpsPosition(latitude_deg=position[0], longitude_deg=position[1])
    return PreparedPhoto(name=name, original=name, sequence=sequence, position=place, **size)


def loose(count: int) -> list[PreparedPhoto]:
    return [photo(f"{i}.jpg") for i in range(count)]


def along_a_line(count: int, spacing_m: float, longitude: float = 7.0) -> list[PreparedPhoto]:
    """Photos from west to east at 60 degrees north, where a degree of longitude is half as long."""
    step = spacing_m / METRES_PER_DEGREE / 0.5
    turned = [(longitude + i * step + 180) % 360 - 180 for i in range(count)]
    return [photo(f"{i:04d}.jpg", position=(60.0, east)) for i, east in enumerate(turned)]


def unordered(pairs: Sequence[tuple[str, str]]) -> set[frozenset[str]]:
    found = set(map(frozenset, pairs))
    assert len(found) == len(pairs)
    return found


@pytest.mark.parametrize("count", [4, EXHAUSTIVE_LIMIT])
def test_small_sets_are_matched_exhaustively(count: int) -> None:
    for photos in (loose(count), along_a_line(count, 30.0)):
        plan = plan_pairs(photos, SfmSettings())
        assert plan.matching == Matching.EXHAUSTIVE
        assert len(unordered(plan.pairs({}))) == count * (count - 1) // 2
        assert not plan.alike


def test_large_sets_go_by_names_positions_or_looks() -> None:
    def chosen(photos: list[PreparedPhoto]) -> Matching:
        return plan_pairs(photos, SfmSettings()).matching

    frames = [photo(f"v_{i}.png", "v.mp4") for i in range(MANY)]
    located = along_a_line(MANY, 10.0)
    assert chosen(frames) == Matching.SEQUENTIAL
    assert chosen(loose(MANY)) == Matching.RETRIEVAL
    assert chosen(located) == Matching.SPATIAL
    some = MANY // 5
    assert chosen(located[some:] + [photo(f"x{i}.jpg") for i in range(some)]) == Matching.RETRIEVAL
    assert chosen(along_a_line(MANY, 0.0)) == Matching.RETRIEVAL  # a camera that kept one fix
    assert chosen(along_a_line(MANY, 0.1)) == Matching.RETRIEVAL  # GPS is no better than that


def test_a_long_video_closes_its_loops_and_a_short_one_needs_not() -> None:
    settings = SfmSettings(matching=Matching.SEQUENTIAL, overlap=2, neighbours=4)
    plan = plan_pairs(loose(MANY), settings)
    known = unordered(plan.known)
    ranked = {"3.jpg": ["4.jpg", "5.jpg", "90.jpg", "91.jpg", "92.jpg"]}
    added = unordered(plan.pairs(ranked)) - known
    assert added == {frozenset(("3.jpg", "90.jpg")), frozenset(("3.jpg", "91.jpg"))}
    assert plan.most_asked >= 2 + 4  # enough are left where all neighbours look alike
    assert not plan_pairs(loose(20), settings).alike


def test_photos_that_look_alike_are_paired_once() -> None:
    plan = plan_pairs(loose(3), SfmSettings(matching=Matching.RETRIEVAL, neighbours=1))
    ranked = {"0.jpg": ["1.jpg", "2.jpg"], "1.jpg": ["0.jpg"], "2.jpg": ["2.jpg", "0.jpg"]}
    assert unordered(plan.pairs(ranked)) == {
        frozenset(("0.jpg", "1.jpg")),
        frozenset(("0.jpg", "2.jpg")),
    }


@pytest.mark.parametrize("longitude", [7.0, 179.9995])
def test_spatial_pairs_are_the_nearest_on_the_ground(longitude: int) -> None:
    photos = along_a_line(30, 10.0, longitude)
    places = positions_m(photos)
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps == pytest.approx(np.full(29, 10.0), rel=1e-3)
    settings = SfmSettings(matching=Matching.SPATIAL, neighbours=2)
    found = unordered(plan_pairs(photos, settings).known)
    apart = {abs(int(a[:4]) - int(b[:4])) for a, b in map(sorted, found)}
    assert apart == {1, 2}  # 2 at both ends
    assert len(found) == 29 + 2


def test_a_photo_with_a_wrong_position_or_none_is_found_by_looks() -> None:
    photos = along_a_line(30, 10.0)
    photos[5] = photo("0005.jpg", position=(60.009, 7.0))  # a kilometre to the north
    photos[6] = photo("0006.jpg")
    plan = plan_pairs(photos, SfmSettings(matching=Matching.SPATIAL, neighbours=4))
    assert (plan.alike["0005.jpg"], plan.alike["0006.jpg"]) == (2, 4)
    ranked = {
        "0005.jpg": ["0004.jpg", "0003.jpg"],
        "0006.jpg": ["0007.jpg", "0004.jpg", "0003.jpg", "0008.jpg"],
    }
    found = unordered(plan.pairs(ranked))
    for name, others in ranked.items():
        assert all(frozenset((name, other)) in found for other in others)


def test_spatial_without_positions_is_refused() -> None:
    with pytest.raises(InputError, match="0 of 20 photos") as caught:
        plan_pairs(loose(20), SfmSettings(matching=Matching.SPATIAL))
    assert caught.value.action


def test_a_plan_is_told_from_every_other() -> None:
    photos = along_a_line(30, 10.0)
    plans = [
        plan_pairs(some, SfmSettings(matching=kind, neighbours=count))
        for some in (photos, photos[:-1])
        for kind in (Matching.SPATIAL, Matching.RETRIEVAL, Matching.SEQUENTIAL)
        for count in (3, 4)
    ]
    digests = [plan.digest for plan in plans]
    assert digests == [plan.digest for plan in plans]
    assert len(set(digests)) == 10  # `neighbours` does nothing for 30 photos in sequence


def test_a_sequence_goes_by_natural_order() -> None:
    names = ["IMG_10.jpg", "IMG_9.jpg", "IMG_1.jpg"]
    settings = SfmSettings(matching=Matching.SEQUENTIAL, overlap=1)
    assert ("IMG_9.jpg", "IMG_10.jpg") in plan_pairs(list(map(photo, names)), settings).known


def test_sequential_pairs_reach_near_and_exponentially_far() -> None:
    names = [str(index) for index in range(100)]
    pairs = sequential_pairs(names, overlap=5)
    assert {int(b) - int(a) for a, b in pairs} == {1, 2, 3, 4, 5, 8, 16}
    assert len(pairs) == len(set(pairs))
