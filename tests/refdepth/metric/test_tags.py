"""Printed tags in rendered photos."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from measured_room import TAG_CENTER, TAG_SIDE_M, TAG_STEP, photographed, tag_corners, with_tag
from numpy.testing import assert_allclose

from refdepth.errors import ConfigurationError, InputError, UnavailableError
from refdepth.metric.tag_scale import scale_from_tags
from refdepth.metric.tags import Sighting, TagFinder
from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import transform
from refdepth.types.scene import Scene, SparsePoints, View

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def photos() -> tuple[SyntheticView, ...]:
    """All show tag 3."""
    return tuple(with_tag(view, 3) for view in photographed().views)


@pytest.fixture(scope="module")
def seen(photos: tuple[SyntheticView, ...]) -> list[Sighting]:
    finder = TagFinder()
    return [s for view in photos for s in finder.find(bytes_of(view), view.name)]


@pytest.fixture(scope="module")
def scene(photos: tuple[SyntheticView, ...]) -> Scene:
    none = np.zeros(0, np.int64)
    points = SparsePoints(
        xyz=np.zeros((0, 3)), rgb=np.zeros((0, 3), np.uint8), error_px=none * 1.0, track_length=none
    )
    return Scene(
        [
            View(
                name=view.name,
                camera=view.camera,
                cam_from_world=view.cam_from_world,
                point_index=none,
                point_xy=np.zeros((0, 2)),
                image_path=None,  # type: ignore[arg-type]
            )
            for view in photos
        ],
        points,
    )


def bytes_of(view: SyntheticView) -> np.ndarray:
    return np.round(np.clip(view.image, 0, 1) * 255).astype(np.uint8)


def true_corners(view: SyntheticView) -> np.ndarray:
    return view.camera.project(transform(view.cam_from_world, tag_corners()))[0]


def unknown(name: str, xy: np.ndarray) -> np.ndarray:
    return np.full((len(xy), 3), np.nan)


def test_corners_are_found_within_a_fraction_of_a_pixel(
    photos: tuple[SyntheticView, ...], seen: list[Sighting]
) -> None:
    assert [(s.tag, s.view) for s in seen] == [(3, view.name) for view in photos]
    off = np.array([s.corners - true_corners(v) for s, v in zip(seen, photos, strict=True)])
    assert np.median(np.linalg.norm(off, axis=-1)) < 0.1
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.05  # half a pixel would show here


def test_a_tag_gives_the_scale_within_half_a_percent(scene: Scene, seen: list[Sighting]) -> None:
    found = scale_from_tags(scene, seen, TAG_SIDE_M, unknown)
    assert found.metres_per_unit == pytest.approx(1, abs=0.005)
    assert abs(found.metres_per_unit - 1) < 3 * found.relative_error < 0.03
    assert found.measurements[0].what == "tag 3, in 4 photos"


def test_a_photo_that_shows_another_tag_of_that_number_is_outvoted(
    scene: Scene, seen: list[Sighting]
) -> None:
    moved = Sighting(tag=3, view=seen[1].view, corners=seen[1].corners + np.array([60, -20]))
    found = scale_from_tags(scene, [seen[0], moved, *seen[2:]], TAG_SIDE_M, unknown)
    assert found.metres_per_unit == pytest.approx(1, abs=0.005)
    assert found.measurements[0].what == "tag 3, in 3 photos"
    with pytest.raises(InputError, match=r"tag 3 is in 2 photos that do not agree"):
        scale_from_tags(scene, [seen[0], moved], TAG_SIDE_M, unknown)


def test_a_tag_that_is_seen_once_is_said_and_used_where_depth_gives_its_corners(
    scene: Scene, seen: list[Sighting]
) -> None:
    once = Sighting(tag=8, view=seen[0].view, corners=seen[0].corners)
    found = scale_from_tags(scene, [*seen, once], TAG_SIDE_M, unknown)
    assert found.notes == ("tag 8 is in one photo only, which has no depth at its corners",)
    with pytest.raises(InputError, match=r"no tag can be used: tag 8 is in one photo only"):
        scale_from_tags(scene, [once], TAG_SIDE_M, unknown)
    found = scale_from_tags(scene, [once], TAG_SIDE_M, lambda name, xy: tag_corners() / 4)
    assert found.metres_per_unit == pytest.approx(4)
    assert found.relative_error >= 0.01


def test_several_tags_are_averaged_with_residuals(scene: Scene, seen: list[Sighting]) -> None:
    noisy = np.random.default_rng(0)
    more = [
        Sighting(tag=tag, view=s.view, corners=s.corners + noisy.normal(0, 0.1, (4, 2)))
        for tag in (3, 4, 5)
        for s in seen
    ]
    found = scale_from_tags(scene, more, TAG_SIDE_M, unknown)
    residuals = [row["residual"] for row in found.to_dict()["measurements"]]
    assert len(residuals) == 3
    assert_allclose(residuals, 0, atol=0.01)
    assert np.ptp(residuals) > 0


def test_a_number_that_is_twice_in_a_photo_is_left_out() -> None:
    view = with_tag(with_tag(photographed().views[1], 5), 5, TAG_CENTER - TAG_STEP)
    assert TagFinder().find(bytes_of(view), view.name) == []


def test_other_families_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TagFinder("4x4_50").find(np.full((64, 64, 3), 255, np.uint8), "x") == []
    with pytest.raises(ConfigurationError, match=r"--tag-family 9x9: .*apriltag_36h11"):
        TagFinder("9x9")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[tags\]"):
        TagFinder()
