"""One surface of many views, against exact geometry: biased views, near and far views, steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from wall_scene import FAR, FOCAL, HEIGHT, VIEWS, WIDTH

from refdepth.fusion import FusionSettings, draw_together, fuse
from refdepth.types.camera import pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

BIAS = {f"{i}.png": bias for i, bias in enumerate((0.002, -0.0013, 0.0017, -0.002, -0.0003))}
CLOSE = 2.0
"""Distance of the near view from the wall."""


def flat(scene: Scene, depth: float = FAR, confidence: float = 0.8) -> dict[str, DepthMap]:
    """A wall across all views."""
    shape = (HEIGHT, WIDTH)
    return {
        name: DepthMap(
            depth=np.full(shape, depth, np.float32),
            confidence=np.full(shape, confidence, np.float32),
        )
        for name in scene.names
    }


def biased(maps: dict[str, DepthMap], bias: dict[str, float]) -> dict[str, DepthMap]:
    return {
        name: DepthMap(depth=m.depth * np.float32(1 + bias[name]), confidence=m.confidence)
        for name, m in maps.items()
    }


def with_near_view(scene: Scene, name: str) -> tuple[Scene, dict[str, DepthMap]]:
    """A view more, in the middle and half as far from the wall; exact depth."""
    middle = scene["2.png"]
    near = replace(middle, name=name, cam_from_world=pose_matrix(np.eye(3), [0, 0, CLOSE - FAR]))
    more = Scene([*scene.views, near], scene.points)
    maps = flat(more)
    maps[name] = DepthMap(
        depth=np.full((HEIGHT, WIDTH), CLOSE, np.float32), confidence=maps[name].confidence
    )
    return more, maps


def seen_near(points: np.ndarray) -> np.ndarray:
    """Which points lie well inside what the near view sees."""
    inside = np.abs(points[:, :2]) < 0.8 * CLOSE / FOCAL * np.array([WIDTH, HEIGHT]) / 2
    return inside.all(axis=1)


def world_points(view: View, depth: np.ndarray) -> np.ndarray:
    """World points (N, 3) of the known pixels of a depth map."""
    known = depth > 0
    points = view.camera.unproject(depth)[known]
    return points + view.center  # the cameras of the wall are not turned


def test_views_with_biases_of_their_own_become_one_thin_surface(wall):
    scene, _ = wall
    maps = biased(flat(scene), BIAS)
    layers = np.array([FAR * (1 + bias) for bias in BIAS.values()])
    spread = []
    for rounds in (1, 2):
        agreed: dict[str, np.ndarray] = {}
        cloud = fuse(
            scene,
            maps.__getitem__,
            FusionSettings(rounds=rounds),
            on_agreed=lambda name, found, into=agreed: into.update({name: found.depth}),
        )
        seen_by_all = cloud.points[np.abs(cloud.points[:, 0]) < 1.4]
        assert abs(np.median(seen_by_all[:, 2]) - layers.mean()) < 0.25 * np.std(layers)
        spread.append(np.std([np.median(depth[depth > 0]) for depth in agreed.values()]))
    one, two = spread
    assert one < 0.25 * np.std(layers)
    assert two < 0.5 * one


def test_one_round_is_the_weighted_mean_worked_out_by_hand(wall):
    scene, _ = wall
    settings = FusionSettings(average_ratio=0.005)
    maps = flat(scene)
    maps["2.png"] = DepthMap(
        depth=np.full((HEIGHT, WIDTH), 4.01, np.float32),
        confidence=np.full((HEIGHT, WIDTH), 0.4, np.float32),
    )
    drawn = draw_together(scene["2.png"], [scene["1.png"]], maps.__getitem__, settings)
    off = (4.0 / 4.01 - 1) / 0.005
    own, other = 0.4**2, 0.8**2 * (4.01 / 4.0) ** 2 * np.exp(-0.5 * off**2)
    expected = (own + other) / (own / 4.01 + other / 4.0)
    inner = np.s_[10:-10, 20:-20]
    np.testing.assert_allclose(drawn.depth_map.depth[inner], expected, rtol=1e-6)
    np.testing.assert_array_equal(drawn.depth_map.confidence, maps["2.png"].confidence)
    assert (drawn.voters[inner] == 1).all()


def test_voters_are_the_sources_with_the_same_surface(wall):
    scene, _ = wall
    maps = biased(flat(scene), {**dict.fromkeys(scene.names, 0.0), "1.png": 0.02})
    sources = [scene["1.png"], scene["3.png"]]
    drawn = draw_together(scene["2.png"], sources, maps.__getitem__, FusionSettings())
    assert (drawn.voters[10:-10, 20:-20] == 0b10).all()


@pytest.mark.parametrize("name", ["+.png", "z.png"])
def test_a_near_view_decides_the_depth_and_gives_the_points(wall, name):
    scene, maps = with_near_view(wall[0], name)
    far_off = {**dict.fromkeys(scene.names, 0.004), name: 0.0}
    cloud = fuse(scene, biased(maps, far_off).__getitem__)
    inside = cloud.points[seen_near(cloud.points)]
    area = np.ptp(inside[:, 0]) * np.ptp(inside[:, 1])
    assert len(inside) == pytest.approx(area / (CLOSE / FOCAL) ** 2, rel=0.05)  # its pixels alone
    assert np.ptp(inside[:, 2]) < 0.2 * 0.004 * FAR
    # Five far views count (1/2)^2 each beside it, so that it holds the surface back by half.
    assert np.median(inside[:, 2] / FAR - 1) < 0.6 * 0.004


@pytest.mark.parametrize("name", ["+.png", "z.png"])
def test_what_a_view_confirms_is_in_the_cloud_whoever_gives_it(wall, name):
    scene, maps = with_near_view(wall[0], name)
    confirmed: dict[str, np.ndarray] = {}
    cloud = fuse(
        scene,
        maps.__getitem__,
        on_view=lambda view, checked: confirmed.update({view: checked.depth}),
    )
    tree = cKDTree(cloud.points)
    for view in scene.views:
        wanted = world_points(view, confirmed[view.name])
        gap = tree.query(wanted)[0] / (confirmed[view.name][confirmed[view.name] > 0] / FOCAL)
        assert gap.max() < 1.5  # widths of its pixels
    assert len(confirmed) == VIEWS + 1


def test_two_surfaces_two_percent_apart_stay_two(wall):
    scene, _ = wall
    front = 0.98 * FAR
    maps = {}
    for view in scene.views:
        x = view.camera.rays()[..., 0] * front + view.center[0]
        depth = np.where(x > 0, front, FAR).astype(np.float32)
        maps[view.name] = DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))
    z = fuse(scene, maps.__getitem__).points[:, 2]
    assert np.minimum(abs(z - front), abs(z - FAR)).max() < 0.001 * FAR
    assert min((abs(z - front) < 0.001).mean(), (abs(z - FAR) < 0.001).mean()) > 0.3


def test_a_thin_thing_before_a_wall_keeps_its_depth(wall):
    scene, _ = wall
    post, width = 0.95 * FAR, 3 * FAR / FOCAL
    maps = {}
    for view in scene.views:
        x = view.camera.rays()[..., 0] * post + view.center[0]
        depth = np.where(abs(x) < width / 2, post, FAR).astype(np.float32)
        maps[view.name] = DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))
    points = fuse(scene, maps.__getitem__, FusionSettings(voxel_px=0.5)).points
    on_post = abs(points[:, 2] - post) < 0.001 * FAR
    assert (on_post | (abs(points[:, 2] - FAR) < 0.001 * FAR)).all()
    assert on_post.sum() > 0.8 * 3 * HEIGHT * post / FAR
    assert np.ptp(points[on_post, 1]) > 0.9 * HEIGHT * post / FOCAL


def test_what_a_finer_view_lacks_is_given_by_coarser_ones(wall):
    scene, maps = with_near_view(wall[0], "z.png")
    torn = maps["z.png"].depth.copy()
    torn[20:50, 30:60] = 0
    maps["z.png"] = DepthMap(depth=torn, confidence=maps["z.png"].confidence)
    points = fuse(scene, maps.__getitem__).points
    near = scene["z.png"]
    xy, _ = near.camera.project(points - near.center)
    lacking = ((xy > [31, 21]) & (xy < [59, 49])).all(axis=1)
    spacing = FAR / FOCAL  # of the coarser views' pixels, of which one gives the place
    assert lacking.sum() == pytest.approx(28 * 28 * (CLOSE / FOCAL / spacing) ** 2, rel=0.15)


def test_large_photos_are_fused_on_a_coarser_grid(wall):
    """The same wall, at the density of the grid; what is handed back lies on that grid."""
    scene, _ = wall
    settings = FusionSettings(max_pixels=HEIGHT * WIDTH // 4)
    agreed: dict[str, DepthMap] = {}
    maps = flat(scene)
    coarse = fuse(scene, maps.__getitem__, settings, on_agreed=agreed.__setitem__)
    fine = fuse(scene, maps.__getitem__)
    assert {found.depth.shape for found in agreed.values()} == {(HEIGHT // 2, WIDTH // 2)}
    assert 3 < len(fine) / len(coarse) < 5
    np.testing.assert_allclose(coarse.points[:, 2], FAR, rtol=1e-5)
    for low, high in zip(coarse.points.min(axis=0), fine.points.min(axis=0), strict=True):
        assert abs(low - high) < 2 * FAR / FOCAL
