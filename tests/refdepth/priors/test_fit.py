"""The scale fit: right on exact data, steady on bad data, honest about doubtful data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from refdepth.priors.borrowing import borrowed_fit
from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scale
from refdepth.priors.scale_fit import ScaleFit, ScaleFlag
from refdepth.synthetic import Spoiling, SyntheticScene, make_scene, spoil_prior
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, SparseDepth

SETTINGS = ScaleSettings()
SHAPE = (60, 80)


def sparse_points(
    depth: np.ndarray, count: int = 200, seed: int = 0, region: tuple[float, float] = (1.0, 1.0)
) -> SparseDepth:
    """Points at pixel centres of a depth map, in the given share of its width and height."""
    rng = np.random.default_rng(seed)
    column = rng.integers(0, int(depth.shape[1] * region[0]), count)
    row = rng.integers(0, int(depth.shape[0] * region[1]), count)
    return SparseDepth(
        xy=np.stack([column + 0.5, row + 0.5], axis=1),
        depth=depth[row, column].astype(np.float64),
        error_px=np.full(count, 0.5),
        track_length=np.full(count, 4),
        point_index=np.arange(count),
    )


def without_scale(depth: np.ndarray, kind: PriorKind, a: float, b: float) -> Prior:
    target = 1 / depth if kind == PriorKind.INVERSE_AFFINE else depth
    return Prior(values=((target - b) / a).astype(np.float32), kind=kind)


@pytest.fixture
def depth() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 2 + 3 * y / SHAPE[0] + np.sin(x / 7)


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        (PriorKind.INVERSE_AFFINE, 0.02, 0.05),
        (PriorKind.INVERSE_AFFINE, 3.0, -0.2),
        (PriorKind.AFFINE, 0.5, -1.0),
        (PriorKind.METRIC, 2.5, 0.0),
    ],
)
def test_exact_priors_give_exact_depth(
    depth: np.ndarray, kind: PriorKind, a: float, b: float
) -> None:
    prior = without_scale(depth, kind, a, b)
    fit = fit_scale(prior, sparse_points(depth), SETTINGS)
    assert (fit.a, fit.b) == (pytest.approx(a, rel=1e-4), pytest.approx(b, abs=1e-4))
    np.testing.assert_allclose(apply_fit(prior, fit), depth, rtol=1e-4)
    assert fit.flags == ()
    assert fit.inliers == fit.points == 200
    assert fit.coverage > 0.9


@pytest.mark.parametrize("kind", list(PriorKind))
def test_four_points_in_ten_may_be_wrong(depth: np.ndarray, kind: PriorKind) -> None:
    b = 0.0 if kind == PriorKind.METRIC else 0.1
    prior = without_scale(depth, kind, 0.7, b)
    sparse = sparse_points(depth)
    rng = np.random.default_rng(1)
    sparse.depth[:80] *= np.exp(rng.uniform(0.5, 3.0, 80))
    sparse.depth[80:] *= np.exp(rng.normal(0, 0.005, 120))
    fit = fit_scale(prior, sparse, SETTINGS)
    np.testing.assert_allclose(apply_fit(prior, fit), depth, rtol=0.01)
    assert 115 <= fit.inliers <= 121
    assert [sample[2] for sample in fit.samples].count(True) == fit.inliers


def test_a_noisy_prior_draws_far_things_less_near(depth: np.ndarray) -> None:
    # Far things carry no points: their depth depends on the slope alone.
    nearer = []
    for seed in range(20):
        noise = np.exp(np.random.default_rng(seed).normal(0, 0.1, depth.shape))
        prior = without_scale(depth / noise, PriorKind.INVERSE_AFFINE, 0.4, 0.05)
        fit = fit_scale(prior, sparse_points(depth, 200, seed), SETTINGS)
        truth = without_scale(np.full(SHAPE, 8.0), PriorKind.INVERSE_AFFINE, 0.4, 0.05)
        nearer.append(np.log(np.median(apply_fit(truth, fit)) / 8.0))
    # -0.087 with the plain regression, which takes the prior for exact.
    assert -0.07 < np.mean(nearer) < 0.03


def test_a_crowd_of_wrong_points_that_agree_does_not_win(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 0.7, 0.1)
    sparse = sparse_points(depth)
    far = np.argsort(sparse.depth)[-80:]
    sparse.depth[far] = 40.0
    fit = fit_scale(prior, sparse, SETTINGS)
    result = apply_fit(prior, fit)
    np.testing.assert_allclose(result[result > 0], depth[result > 0], rtol=0.02)


def test_reliable_points_decide_between_two_answers(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 1.0, 0.0)
    sparse = sparse_points(depth)
    half = np.arange(200) % 2 == 0
    sparse.depth[half] *= 1.3
    sparse.track_length[half] = 2
    sparse.error_px[half] = 1.8
    np.testing.assert_allclose(
        apply_fit(prior, fit_scale(prior, sparse, SETTINGS)), depth, rtol=0.02
    )


def test_one_wall_with_most_points_does_not_flatten_the_line() -> None:
    """Four in five points lie on a wall at one depth; the rest of the room comes nearer."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth = np.where(x < 40, 4.0, 1.5 + 0.0625 * (x - 40) + 0.01 * x)
    off = np.exp(0.09 * np.sin(x / 9 + 1) * np.cos(y / 8))
    prior = without_scale(depth * off, PriorKind.INVERSE_AFFINE, 0.5, -0.1)
    for seed in range(3):
        wall = sparse_points(depth, 600, seed, region=(0.5, 1.0))
        rest = sparse_points(depth[:, 40:], 150, seed)
        rest.xy[:, 0] += 40
        both = {k: np.concatenate([v, vars(rest)[k]]) for k, v in vars(wall).items()}
        fit = fit_scale(prior, SparseDepth(**both), SETTINGS)
        assert np.mean(np.abs(np.log(apply_fit(prior, fit) / depth))) < 0.06  # flat: 0.13


def test_a_flat_fit_is_told(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 0.5, 0.05)
    assert not fit_scale(prior, sparse_points(depth), SETTINGS).flat
    assert fit_scale(prior, sparse_points(np.full(SHAPE, 3.0)), SETTINGS).flat


def test_order_of_points_does_not_matter_and_repeats_are_identical(depth: np.ndarray) -> None:
    prior = without_scale(
        depth * (1 + 0.1 * np.random.default_rng(0).random(SHAPE)),
        PriorKind.INVERSE_AFFINE,
        0.3,
        0.1,
    )
    sparse = sparse_points(depth)
    mixed = np.random.default_rng(3).permutation(200)
    shuffled = SparseDepth(**{k: v[mixed] for k, v in vars(sparse).items()})
    fits = [fit_scale(prior, s, SETTINGS) for s in (sparse, sparse, shuffled)]
    assert fits[0].to_dict() == fits[1].to_dict()
    assert fits[2].a == pytest.approx(fits[0].a, rel=1e-6)


def test_sky_and_noise_cannot_blow_up(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 0.5, 0.05)
    values = prior.values.copy()
    sky = np.s_[:10]
    values[sky] = np.random.default_rng(0).uniform(-0.12, -0.05, values[sky].shape)
    values[20:25, :5] = np.nan
    values[30, 30] = np.inf
    prior = Prior(values=values, kind=prior.kind)
    sparse = sparse_points(depth[12:])
    sparse.xy[:, 1] += 12
    fit = fit_scale(prior, sparse, SETTINGS)
    result = apply_fit(prior, fit)
    assert np.isfinite(result).all()
    assert (result[sky] == 0).all()
    assert (result[20:25, :5] == 0).all()
    assert result[30, 30] == 0
    assert result.max() <= fit.far <= 3.01 * depth.max()
    below = result[40:]
    np.testing.assert_allclose(below, depth[40:], rtol=1e-3)


def test_few_and_badly_spread_points_are_flagged(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 0.5, 0.05)
    few = fit_scale(prior, sparse_points(depth, 5), SETTINGS)
    assert few.flags[0] == ScaleFlag.FEW_POINTS
    assert few.weak
    corner = fit_scale(prior, sparse_points(depth, 100, region=(0.2, 0.2)), SETTINGS)
    assert corner.flags == (ScaleFlag.BADLY_SPREAD,)
    none = fit_scale(prior, sparse_points(depth, 0), SETTINGS)
    assert none.flags == (ScaleFlag.NO_POINTS,)
    assert not apply_fit(prior, none).any()
    json.dumps(none.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "normalised"),
    [(kind, False) for kind in PriorKind]
    + [(PriorKind.INVERSE_AFFINE, True), (PriorKind.AFFINE, True)],
)
@pytest.mark.parametrize("count", [0, 5])
def test_weak_views_borrow_what_the_others_agree_on(
    kind: PriorKind, normalised: bool, count: int
) -> None:
    """Priors with one scale for the scene, or (affine kinds) normalised picture by picture."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    fits = []
    for index in range(7):
        depth = 2 + 3 * y / SHAPE[0] + np.sin(x / 7 + index)
        target = 1 / depth if kind == PriorKind.INVERSE_AFFINE else depth
        values = target * 4.0 + (0.0 if kind == PriorKind.METRIC else 0.3)
        if normalised:
            values = (values - values.min()) / np.ptp(values) * rng.uniform(0.1, 10)
        prior = Prior(values=values.astype(np.float32), kind=kind)
        fits.append(fit_scale(prior, sparse_points(depth), SETTINGS))
    fallback = borrowed_fit(fits)
    fit = fit_scale(prior, sparse_points(depth, count), SETTINGS, fallback=fallback)
    assert ScaleFlag.BORROWED in fit.flags
    tolerance = 0.15 if normalised else 1e-3
    np.testing.assert_allclose(apply_fit(prior, fit), depth, rtol=tolerance)


def test_points_in_one_corner_are_joined_with_what_the_others_agree_on(depth: np.ndarray) -> None:
    own, borrowed = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        bumps = np.kron(rng.normal(0, 0.05, (6, 8)), np.ones((10, 10)))
        prior = without_scale(depth * np.exp(bumps), PriorKind.INVERSE_AFFINE, 0.4, 0.05)
        fallback = borrowed_fit([fit_scale(prior, sparse_points(depth), SETTINGS)])
        corner = sparse_points(depth, 60, seed, region=(0.25, 0.2))
        for results, other in ((own, None), (borrowed, fallback)):
            result = apply_fit(prior, fit_scale(prior, corner, SETTINGS, fallback=other))
            results.append(np.median(np.abs(result / depth - 1)))
    assert np.all(np.array(borrowed) < own)
    assert np.mean(borrowed) < 0.9 * np.mean(own)


def test_nothing_sound_to_borrow_is_none(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.INVERSE_AFFINE, 0.5, 0.05)
    assert borrowed_fit([]) is None
    assert borrowed_fit([fit_scale(prior, sparse_points(depth, 3), SETTINGS)]) is None


def test_a_prior_that_runs_the_wrong_way_is_told(depth: np.ndarray) -> None:
    prior = Prior(values=depth.astype(np.float32), kind=PriorKind.INVERSE_AFFINE)
    fit = fit_scale(prior, sparse_points(depth), SETTINGS)
    assert fit.a > 0
    assert ScaleFlag.OPPOSED in fit.flags
    assert np.isfinite(apply_fit(prior, fit)).all()


@pytest.mark.parametrize("values", [0.0, -2.0, 5.0, np.nan])
@pytest.mark.parametrize("kind", list(PriorKind))
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_constant_priors_never_raise(values: float, kind: PriorKind, count: int) -> None:
    depth = np.full(SHAPE, 3.0)
    prior = Prior(values=np.full(SHAPE, values, np.float32), kind=kind)
    fit = fit_scale(prior, sparse_points(depth, count), SETTINGS)
    result = apply_fit(prior, fit)
    assert np.isfinite(result).all()
    assert (result >= 0).all()
    if values == 5.0 and count == 50:
        np.testing.assert_allclose(result, 3.0, rtol=1e-5)


def test_a_fit_survives_json(depth: np.ndarray) -> None:
    prior = without_scale(depth, PriorKind.AFFINE, 0.5, 0.05)
    fit = fit_scale(prior, sparse_points(depth), SETTINGS)
    again = ScaleFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert again == fit
    assert again.median_residual == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def room_and_scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticScene, Scene]:
    room = make_scene(views=3, width=240, height=180)
    return room, room.to_scene(tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize("error", ["smooth", "objectwise"])
@pytest.mark.parametrize("kind", list(PriorKind))
def test_simulated_networks_are_fitted_nearly_as_well_as_the_exact_depth_allows(
    room_and_scene: tuple[SyntheticScene, Scene], kind: PriorKind, error: str
) -> None:
    room, scene = room_and_scene
    for index, view in enumerate(scene.views):
        prior = room.simulated_prior(index, 0, kind, error)
        truth = room.views[index].depth
        fit = fit_scale(prior, scene.sparse_depth(view), SETTINGS)
        oracle = fit_scale(prior, sparse_points(truth, 4000), SETTINGS)
        miss, best = (np.abs(apply_fit(prior, f) / truth - 1).mean() for f in (fit, oracle))
        assert miss < 1.35 * best + 0.01
        assert fit.flags == ()


def spoiled(room: SyntheticScene, index: int, kind: PriorKind, how: str) -> Prior:
    """The simulated prior of a view, made useless in part or wholly."""
    prior = room.simulated_prior(index, 0, kind)
    if how == "half_nan":
        prior.values[:, prior.values.shape[1] // 2 :] = np.nan
        return prior
    if how == "another_photo":
        other = room.simulated_prior((index + 1) % len(room.views), 1, kind)
        return replace(prior, values=np.ascontiguousarray(other.values[::-1, ::-1]))
    return spoil_prior(prior, Spoiling(how))


@pytest.mark.parametrize("kind", [PriorKind.INVERSE_AFFINE, PriorKind.METRIC])
@pytest.mark.parametrize("how", [*Spoiling, "half_nan", "another_photo"])
def test_useless_priors_come_through_as_what_the_points_allow(
    room_and_scene: tuple[SyntheticScene, Scene], kind: PriorKind, how: str
) -> None:
    room, scene = room_and_scene
    for index, view in enumerate(scene.views):
        prior, truth = spoiled(room, index, kind, how), room.views[index].depth
        sparse = scene.sparse_depth(view)
        line, bent = (fit_scale(prior, sparse, ScaleSettings(bend_from=b)) for b in (9.0, 0.0))
        depth, unbent = apply_fit(prior, bent), apply_fit(prior, line)
        assert np.isfinite(depth).all()
        assert ((depth > 0) == np.isfinite(prior.values)).all()  # unknown stays unknown
        known = depth > 0
        assert 0.5 * truth.min() < depth[known].min()
        assert depth.max() < 2.5 * truth.max()
        miss, before = (np.median(np.abs(d[known] / truth[known] - 1)) for d in (depth, unbent))
        assert miss < 0.4 * before
        expected = {"constant": "unrelated", "upside_down": "opposed"}.get(how)
        assert expected is None or expected in bent.flags


def test_a_constant_prior_becomes_a_smooth_surface_through_the_points() -> None:
    y, x = np.mgrid[:90, :120]
    depth = 3 * np.exp(0.3 * np.sin(x / 40) + 0.3 * np.cos(y / 30))
    prior = Prior(values=np.full(depth.shape, 0.5, np.float32), kind=PriorKind.INVERSE_AFFINE)
    fit = fit_scale(prior, sparse_points(depth, 250), SETTINGS)
    assert ScaleFlag.UNRELATED in fit.flags
    error = np.abs(np.log(apply_fit(prior, fit) / depth))
    assert np.quantile(error, 0.95) < 0.02 < 0.15 < fit.left_out_before["0.5"]
    assert fit.left_out_quantiles["0.5"] < 0.02


def test_a_constant_prior_of_a_flat_wall_is_not_accused() -> None:
    prior = Prior(values=np.full(SHAPE, 0.5, np.float32), kind=PriorKind.INVERSE_AFFINE)
    fit = fit_scale(prior, sparse_points(np.full(SHAPE, 3.0)), SETTINGS)
    assert fit.flags == ()
    assert fit.bend is None
