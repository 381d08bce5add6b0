"""The sky through both rounds and fusion, on rendered photos with exact depth."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refdepth.api import refine_scene
from refdepth.fusion import fuse
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import Method, RefineSettings
from refdepth.refine.sky import contradicted, left_out, place_sky
from refdepth.synthetic import make_scene
from refdepth.synthetic.outdoors import make_outdoors
from refdepth.synthetic.scene import SyntheticScene
from refdepth.types.camera import invert_pose, transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.prior import Prior
from refdepth.types.scene import Scene, SparseDepth

SETTINGS = RefineSettings.preset("fast")
Map = NDArray[np.float32]


@dataclass
class Outdoors:
    made: SyntheticScene
    scene: Scene
    priors: dict[str, Prior]

    @property
    def truth(self) -> dict[str, Map]:
        return {n: view.depth for n, view in zip(self.scene.names, self.made.views, strict=True)}

    def scaled(self, sky: float, spoil: Callable[[str, Prior], Prior] | None = None) -> dict:
        priors = {n: spoil(n, p) if spoil else p for n, p in self.priors.items()}
        points = {view.name: self.scene.sparse_depth(view) for view in self.scene.views}
        fits = fit_scene(priors, points)
        return {name: apply_fit(priors[name], fit, sky=sky) for name, fit in fits.items()}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "clouds"])
def outdoors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outdoors:
    made = make_outdoors(seed=2, views=5, width=240, height=180, clouds=request.param)
    scene = made.to_scene(tmp_path_factory.mktemp("outdoors"))
    return Outdoors(made, scene, {n: made.simulated_prior(i) for i, n in enumerate(scene.names)})


@pytest.fixture(scope="module")
def refined(outdoors: Outdoors) -> dict[str, DepthMap]:
    return refine_scene(outdoors.scene, outdoors.scaled(np.inf), settings=SETTINGS)


@pytest.fixture(scope="module")
def without(outdoors: Outdoors) -> dict[str, DepthMap]:
    """With the sky unknown from the start."""
    return refine_scene(outdoors.scene, outdoors.scaled(0.0), settings=SETTINGS)


def errors(outdoors: Outdoors, refined: dict[str, DepthMap]) -> NDArray[np.float64]:
    """Relative errors on the houses and the ground before them; 1 where depth is unknown."""
    return np.concatenate(
        [
            np.abs(refined[name].depth[near] / depth[near] - 1)
            for name, depth in outdoors.truth.items()
            for near in [(depth > 0) & (depth < 30)]
        ]
    )


def in_sky(outdoors: Outdoors, refined: dict[str, DepthMap]) -> float:
    """Share of the sky's pixels with depth."""
    return float(
        np.mean([(refined[n].depth[d == 0] > 0).mean() for n, d in outdoors.truth.items()])
    )


def test_the_sky_has_no_depth_and_no_confidence(
    outdoors: Outdoors, refined: dict[str, DepthMap], without: dict[str, DepthMap]
) -> None:
    assert in_sky(outdoors, refined) < 0.005
    assert in_sky(outdoors, refined) < 0.3 * in_sky(outdoors, without)
    for found in refined.values():
        assert np.isfinite(found.depth).all()
        assert np.isfinite(found.confidence).all()
        assert not found.confidence[found.depth == 0].any()


def test_houses_are_no_worse_for_it(
    outdoors: Outdoors, refined: dict[str, DepthMap], without: dict[str, DepthMap]
) -> None:
    after, before = errors(outdoors, refined), errors(outdoors, without)
    assert (after < 0.03).mean() >= (before < 0.03).mean() - 0.002
    assert after.mean() <= 1.02 * before.mean()


def test_no_point_lies_behind_the_farthest_surface_or_in_the_air(
    outdoors: Outdoors, refined: dict[str, DepthMap]
) -> None:
    points = fuse(outdoors.scene, refined.__getitem__).points
    assert len(points) > 5000
    center = outdoors.scene.views[2].center
    farthest = 0.0
    for view in outdoors.made.views:
        row, column = np.nonzero(view.depth)
        local = view.camera.unproject(
            view.depth[row, column], np.stack([column, row], axis=1) + 0.5
        )
        surface = transform(invert_pose(view.cam_from_world), local)
        farthest = max(farthest, np.linalg.norm(surface - center, axis=1).max())
    assert np.linalg.norm(points - center, axis=1).max() < 1.05 * farthest
    sky_alone = np.zeros(len(points), int)
    for view in outdoors.made.views:
        local = transform(view.cam_from_world, points.astype(np.float64))
        u, v = (local @ view.camera.K.T)[:, :2].T / local[:, 2]
        inside = (local[:, 2] > 0) & (u >= 2) & (v >= 2)
        inside &= (u < view.camera.width - 2) & (v < view.camera.height - 2)
        for k in np.flatnonzero(inside):
            x, y = int(u[k]), int(v[k])
            around = view.depth[y - 2 : y + 3, x - 2 : x + 3]
            sky_alone[k] += not around.any()
    assert (sky_alone > 1).mean() < 0.001


def test_a_scene_without_sky_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    made = make_scene("room", seed=1, views=4, width=160, height=120)
    room = Outdoors(made, made.to_scene(tmp_path), {})
    room.priors = {n: made.simulated_prior(i) for i, n in enumerate(room.scene.names)}
    found = [refine_scene(room.scene, room.scaled(sky), settings=SETTINGS) for sky in (0.0, np.inf)]
    for name in room.scene.names:
        assert np.array_equal(found[0][name].depth, found[1][name].depth)
        assert np.array_equal(found[0][name].confidence, found[1][name].confidence)
        assert (found[0][name].depth > 0).all()


def test_a_wall_that_the_prior_takes_for_sky_comes_back_where_points_lie_on_it(
    outdoors: Outdoors,
) -> None:
    """The wall of the nearest house, in all views: photos and points see it."""
    wall = _nearest_wall(outdoors)

    def spoil(name: str, prior: Prior) -> Prior:
        view = outdoors.made.views[outdoors.scene.names.index(name)]
        far = np.median(prior.values[view.depth == 0])
        return replace(prior, values=np.where(view.surface == wall, far, prior.values))

    scaled = outdoors.scaled(np.inf, spoil)
    refined = refine_scene(outdoors.scene, scaled, settings=SETTINGS)
    for view, name in zip(outdoors.made.views, outdoors.scene.names, strict=True):
        on = view.surface == wall
        assert np.isinf(scaled[name][on]).mean() > 0.9
        error = np.abs(refined[name].depth[on] / view.depth[on] - 1)
        if not on[:, [0, -1]].any():  # else nothing tells where the wall ends and the sky begins
            assert (error < 0.05).mean() > 0.9
    assert in_sky(outdoors, refined) < 0.01


def _nearest_wall(outdoors: Outdoors) -> int:
    """Label of the nearest house that all views show large."""
    views = outdoors.made.views
    depth, surface = views[2].depth, views[2].surface
    large = [k for k in np.unique(surface) if min((v.surface == k).sum() for v in views) > 2000]
    houses = [k for k in large if 0 < np.ptp(depth[surface == k]) < 10]
    return min(houses, key=lambda k: depth[surface == k].mean())


def test_tensors_give_what_arrays_give(outdoors: Outdoors) -> None:
    torch = pytest.importorskip("torch")
    name = outdoors.scene.names[2]
    scaled = outdoors.scaled(np.inf)[name]
    placed, sky = place_sky(scaled, points_at(np.zeros((0, 2)), np.zeros(0)), SETTINGS)
    assert np.isfinite(placed).all()
    on_device = torch.from_numpy(placed)
    np.testing.assert_array_equal(sky.removed(placed), np.where(np.isinf(scaled), 0, scaled))
    np.testing.assert_array_equal(sky.removed(on_device).numpy(), sky.removed(placed))
    kept = sky.kept(on_device, on_device * 1.1).numpy()
    np.testing.assert_array_equal(kept, sky.kept(placed, placed * np.float32(1.1)))
    np.testing.assert_array_equal(kept == placed, np.isinf(scaled) | (scaled == 0))


def test_the_record_says_how_much_is_sky(outdoors: Outdoors) -> None:
    scene, scaled = outdoors.scene, outdoors.scaled(np.inf)
    photos = {v.name: WorkingView.of(load_photo(v), **SETTINGS.grid) for v in scene.views}
    name, *others = scene.names[2], scene.names[1], scene.names[3]

    def inputs(view: str) -> dict:
        near = [other for other in (name, *others) if other != view]
        return {
            "ref": photos[view],
            "sources": [photos[other] for other in near],
            "scaled": scaled[view],
            "sparse": scene.sparse_depth(scene[view]),
            "settings": SETTINGS,
        }

    first = {view: first_round(**inputs(view)).depth_map for view in (name, *others)}
    assert all(np.isfinite(found.depth).all() for found in first.values())
    depths = [first[other] for other in others]
    found = second_round(**inputs(name), first=first[name], source_depths=depths)
    assert found.record["sky_share"] == pytest.approx((found.depth == 0).mean(), abs=1e-3)
    assert found.record["sky_share"] == pytest.approx((outdoors.truth[name] == 0).mean(), abs=0.05)
    assert found.record["masked_share"] == 0
    assert found.trust is not None
    assert (found.trust.order[photos[name].grid.shrink_depth(found.depth) == 0] == 0).all()


def test_a_view_without_neighbours_and_the_published_method_know_no_sky(
    outdoors: Outdoors,
) -> None:
    name = outdoors.scene.names[0]
    scaled = outdoors.scaled(np.inf)[name]
    view = WorkingView.of(load_photo(outdoors.scene[name]), **SETTINGS.grid)
    sparse = outdoors.scene.sparse_depth(outdoors.scene[name])
    nothing = np.zeros(view.grid.shape, np.float32)
    alone = second_round(
        view,
        [],
        scaled=scaled,
        sparse=sparse,
        first=DepthMap(depth=nothing, confidence=nothing),
        source_depths=[],
        settings=SETTINGS,
    )
    np.testing.assert_array_equal(alone.depth, np.where(np.isinf(scaled), 0, scaled))
    assert alone.record["sky_share"] == pytest.approx(np.isinf(scaled).mean(), abs=1e-4)
    paper = SETTINGS.model_copy(update={"method": Method.PAPER})
    placed, sky = place_sky(scaled, sparse, paper)
    np.testing.assert_array_equal(sky.removed(placed), np.where(np.isinf(scaled), 0, scaled))


def test_what_is_left_out_is_masked_first() -> None:
    told, depth = np.ones((4, 4), bool), np.ones((4, 4), np.float32)
    depth[:2] = 0
    told[0, 0] = False
    mask = np.ones((4, 4), bool)
    mask[:, :2] = False
    assert left_out(told, depth, None) == {"sky_share": 0.4375, "masked_share": 0.0}
    assert left_out(told, depth, mask) == {"sky_share": 0.25, "masked_share": 0.5}


def points_at(xy: NDArray[np.float64], depth: NDArray[np.float64], track: int = 4) -> SparseDepth:
    count = len(xy)
    return SparseDepth(
        xy=xy,
        depth=depth,
        error_px=np.full(count, 0.5),
        track_length=np.full(count, track),
        point_index=np.arange(count),
    )


@pytest.fixture
def slope() -> tuple[Map, SparseDepth, NDArray[np.float64]]:
    """A view with sky above the ground, points on a slanted plane in the sky, and its depth."""
    scaled = np.full((120, 160), np.inf, np.float32)
    scaled[90:] = 5
    x, y = np.meshgrid(np.arange(50.0, 101, 10), np.arange(20.0, 61, 10))
    column, row = np.arange(160) + 0.5, np.arange(120)[:, None] + 0.5
    inverse = 0.1 + 1e-3 * column + 5e-4 * row
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    return scaled, points_at(xy, 1 / (0.1 + 1e-3 * xy[:, 0] + 5e-4 * xy[:, 1])), 1 / inverse


def test_between_points_in_the_sky_lies_their_surface(
    slope: tuple[Map, SparseDepth, NDArray[np.float64]],
) -> None:
    scaled, points, depth = slope
    filled = contradicted(scaled, points)
    hull = np.zeros(scaled.shape, bool)
    hull[20:60, 50:100] = True
    np.testing.assert_allclose(filled[hull], depth[hull], rtol=1e-5)
    np.testing.assert_array_equal(filled[~hull], scaled[~hull])


def test_a_piece_of_sky_between_other_things_is_theirs_to_its_ends(
    slope: tuple[Map, SparseDepth, NDArray[np.float64]],
) -> None:
    scaled, points, depth = slope
    scaled[10:12], scaled[68:], scaled[:, 40:42], scaled[:, 110:112] = 5, 5, 5, 5
    filled = contradicted(scaled, points)
    np.testing.assert_allclose(filled[12:68, 42:110], depth[12:68, 42:110], rtol=0.1)
    assert np.isinf(filled[:10, 50:100]).all()


@pytest.mark.parametrize("doubt", ["few", "short tracks", "apart", "at many depths", "on a line"])
def test_points_that_show_no_surface_leave_the_sky_alone(
    slope: tuple[Map, SparseDepth, NDArray[np.float64]], doubt: str
) -> None:
    scaled, points, _ = slope
    xy, depth = points.xy, points.depth
    few = points_at(xy[:5], depth[:5])
    jumping = depth * np.where(np.arange(len(xy)) % 2, 1.0, 3.0)
    level = np.stack([xy[:, 0], np.full(len(xy), 30.0)], axis=1)
    given = {
        "few": few,
        "short tracks": points_at(xy, depth, track=2),
        "apart": points_at((xy - [75, 40]) * [2.9, 2] + [75, 40], depth),
        "at many depths": points_at(xy, jumping),
        "on a line": points_at(level, depth),
    }[doubt]
    if doubt == "at many depths":
        filled = contradicted(scaled, given)
        assert np.isinf(filled[20:60, 50:100]).mean() > 0.9
    else:
        assert contradicted(scaled, given) is scaled


def test_points_along_a_roof_leave_the_sky_alone() -> None:
    """They lie a pixel or two within what the prior calls sky."""
    scaled = np.full((120, 160), np.inf, np.float32)
    scaled[60:] = 10
    x = np.arange(4.0, 157, 4)
    xy = np.stack([x, np.where(x % 8 == 0, 58.5, 59.5)], axis=1)
    assert contradicted(scaled, points_at(xy, np.full(len(x), 10.0))) is scaled
