"""Surfaces of which photos say nothing: others' depth decides, and what is made of it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.refine.acceptance import Verdict, accept
from refdepth.refine.problem import ViewProblem
from refdepth.refine.refined_view import RefinedView
from refdepth.refine.rounds import second_round
from refdepth.refine.settings import RefineSettings
from refdepth.refine.transfer import Transferred, transfer
from refdepth.synthetic import make_scene
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

SETTINGS = RefineSettings(iterations=0)
Map = NDArray[np.float32]


class Room:
    """A small room with exact depth, as photographed and without anything to see."""

    def __init__(self, folder: Path) -> None:
        synthetic = make_scene("room", seed=1, views=6, width=120, height=90)
        self.scene: Scene = synthetic.to_scene(folder)
        self.names = self.scene.names
        self.truth = [view.depth for view in synthetic.views]
        photos = [load_photo(self.scene[name]) for name in self.names]
        points = self.scene.sparse_depth(self.scene[self.names[0]])
        self.no_points = points.select(np.zeros(len(points), bool))
        self.textured = [WorkingView.of(photo, **SETTINGS.grid) for photo in photos]
        plain = [replace(photo, image=np.full_like(photo.image, 0.5)) for photo in photos]
        self.plain = [WorkingView.of(photo, **SETTINGS.grid) for photo in plain]

    def shrunk(self, depth: Map, row: int) -> Map:
        return self.plain[row].grid.shrink_depth(depth)

    def guess(self, row: int, seed: int | None = None) -> DepthMap:
        """What a view may hold without having seen anything: the truth and a wave of some 5 %;
        the truth itself without a seed."""
        depth = self.shrunk(self.truth[row], row)
        if seed is not None:
            depth = depth * np.exp(wave(depth.shape, seed))
        return DepthMap(depth=depth, confidence=np.full_like(depth, 0.02))


def wave(shape: tuple[int, int], seed: int) -> Map:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[1]
    rounds, phase = rng.uniform(2, 4, 2), rng.uniform(0, 6, 2)
    found = np.sin(6.3 * rounds[0] * x + phase[0]) * np.sin(6.3 * rounds[1] * y + phase[1])
    return (0.1 * found).astype(np.float32)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("room"))


def test_the_more_views_tell_their_depth_the_better_a_plain_surface(room: Room) -> None:
    scaled = room.truth[0] * np.exp(wave(room.truth[0].shape, 0))

    def error(onlookers: range) -> float:
        found: RefinedView = second_round(
            room.plain[0],
            [room.plain[1]],
            scaled=scaled,
            sparse=room.no_points,
            first=DepthMap(
                depth=room.shrunk(scaled, 0),
                confidence=np.full(room.plain[0].grid.shape, 0.02, np.float32),
            ),
            source_depths=[room.guess(1, 1)],
            onlookers=[room.plain[row] for row in onlookers],
            onlooker_depths=[room.guess(row, row) for row in onlookers],
            settings=SETTINGS,
        )
        return float(np.abs(found.depth / room.truth[0] - 1).mean())

    alone, among_more = error(range(0)), error(range(2, 6))
    assert alone > 0.02
    assert among_more < 0.85 * alone


def verdict(room: Room, views: list[WorkingView], before: Map, after: Map, told: bool) -> Verdict:
    """Of view 1, which knows the truth or nothing, on depth of view 0."""
    held_out = ViewProblem(views[0], [views[1]], room.no_points, SETTINGS)
    seen = transfer(views[0], [views[1]], [room.guess(1)])
    if not told:
        seen = Transferred(depth=0 * seen.depth, confidence=0 * seen.confidence)
    return accept(held_out, seen, room.shrunk(before, 0), room.shrunk(after, 0))


def test_where_nothing_can_be_judged_a_refinement_is_kept(room: Room) -> None:
    truth = room.truth[0]
    found = verdict(room, room.plain, truth * np.float32(1.05), truth, told=False)
    assert found.accepted > 0.99


def test_where_photos_or_depth_speak_against_it_it_is_not(room: Room) -> None:
    truth = room.truth[0]
    wrong = truth * np.float32(1.05)
    assert verdict(room, room.textured, truth, wrong, told=False).accepted < 0.1
    assert verdict(room, room.textured, wrong, truth, told=False).accepted > 0.9
    assert verdict(room, room.plain, truth, wrong, told=True).accepted < 0.1
