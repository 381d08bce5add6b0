"""What a prior says of the sky, on simulated network maps of a scene with exact depth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.priors.scale_fit import ScaleFit
from refdepth.refine.sky import contradicted
from refdepth.synthetic import PriorError, make_scene
from refdepth.synthetic.outdoors import make_outdoors
from refdepth.synthetic.scene import SyntheticScene
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene

KINDS = list(PriorKind)


def fitted(
    made: SyntheticScene, scene: Scene, kind: PriorKind, error: PriorError
) -> tuple[dict[str, Prior], dict[str, ScaleFit]]:
    priors = {
        name: made.simulated_prior(index, kind=kind, error=error)
        for index, name in enumerate(scene.names)
    }
    points = {view.name: scene.sparse_depth(view) for view in scene.views}
    return priors, fit_scene(priors, points)


@pytest.fixture(scope="module")
def outdoors(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticScene, Scene]:
    made = make_outdoors(seed=1, views=4, width=160, height=120, clouds=True)
    return made, made.to_scene(tmp_path_factory.mktemp("outdoors"), points_per_view=150)


@pytest.mark.parametrize("error", list(PriorError))
@pytest.mark.parametrize("kind", KINDS)
def test_the_sky_is_found_whatever_the_line_makes_of_it(
    outdoors: tuple[SyntheticScene, Scene], kind: PriorKind, error: PriorError
) -> None:
    made, scene = outdoors
    priors, fits = fitted(made, scene, kind, error)
    for view, name in zip(made.views, scene.names, strict=True):
        depth = apply_fit(priors[name], fits[name], sky=np.inf)
        sky = view.depth == 0
        assert np.isinf(depth[sky]).mean() > 0.96  # the rest is the smear along roofs
        houses = ~sky & (view.depth < 30)  # the points reach to 25
        assert np.isinf(depth[houses]).mean() < 0.02
        unknown = apply_fit(priors[name], fits[name])
        np.testing.assert_array_equal(unknown, np.where(np.isinf(depth), 0, depth))


@pytest.mark.parametrize("error", list(PriorError))
@pytest.mark.parametrize("kind", KINDS)
def test_a_room_has_no_sky(tmp_path: Path, kind: PriorKind, error: PriorError) -> None:
    made = make_scene("plain_walls", seed=2, views=4, width=160, height=120)
    priors, fits = fitted(made, made.to_scene(tmp_path, points_per_view=100), kind, error)
    for name, fit in fits.items():
        assert fit.sky_from is None
        assert (apply_fit(priors[name], fit, sky=np.inf) > 0).all()
        assert np.isfinite(apply_fit(priors[name], fit, sky=np.inf)).all()


def test_far_ground_with_points_on_it_is_no_sky(outdoors: tuple[SyntheticScene, Scene]) -> None:
    """Where the sky would be, but points lie all over it, as far as it is."""
    made, scene = outdoors
    view = made.views[1]
    name = scene.names[1]
    row, column = np.nonzero(view.depth == 0)
    chosen = np.random.default_rng(0).choice(len(row), 40, replace=False)
    points = scene.sparse_depth(scene[name])
    prior = made.simulated_prior(1, kind=PriorKind.METRIC)
    far = np.median(prior.values[row, column]) * np.median(
        points.depth / prior.values[tuple(points.xy.astype(int).T[::-1])]
    )
    more = np.stack([column[chosen], row[chosen]], axis=1) + 0.5
    points = replace(
        points,
        xy=np.concatenate([points.xy, more]),
        depth=np.concatenate([points.depth, np.full(40, far)]),
        error_px=np.concatenate([points.error_px, np.full(40, 0.5)]),
        track_length=np.concatenate([points.track_length, np.full(40, 4)]),
        point_index=np.concatenate([points.point_index, np.arange(40)]),
    )
    fit = fit_scene({name: prior}, {name: points})[name]
    assert fit.sky_from is None
    assert np.isfinite(apply_fit(prior, fit, sky=np.inf)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_farthest_wall_taken_for_sky_leaves_the_sky_where_it_is(
    tmp_path: Path, kind: PriorKind
) -> None:
    """The farthest points lie on it."""
    made = make_outdoors(seed=2, views=5, width=240, height=180)
    scene = made.to_scene(tmp_path)
    depth, surface = made.views[2].depth, made.views[2].surface
    large = [k for k in np.unique(surface) if np.mean(surface == k) > 0.05 and k >= 0]
    wall = max(large, key=lambda k: np.median(depth[surface == k]))
    priors = {}
    for index, (view, name) in enumerate(zip(made.views, scene.names, strict=True)):
        prior = made.simulated_prior(index, kind=kind)
        sky = np.median(prior.values[view.depth == 0])
        values = np.where(view.surface == wall, sky, prior.values).astype(np.float32)
        priors[name] = replace(prior, values=values)
    fits = fit_scene(priors, {view.name: scene.sparse_depth(view) for view in scene.views})
    for view, name in zip(made.views[1:4], scene.names[1:4], strict=True):
        scaled = apply_fit(priors[name], fits[name], sky=np.inf)
        assert np.isinf(scaled[view.depth == 0]).mean() > 0.9
        points = scene.sparse_depth(scene[name])
        back = contradicted(scaled, points)
        right = np.abs(back[view.surface == wall] / view.depth[view.surface == wall] - 1) < 0.1
        assert right.mean() > 0.6
        assert np.isinf(back[view.depth == 0]).mean() > 0.9


def test_a_fit_with_sky_is_plain_json_and_comes_back(
    outdoors: tuple[SyntheticScene, Scene],
) -> None:
    import json

    made, scene = outdoors
    _, fits = fitted(made, scene, PriorKind.INVERSE_AFFINE, PriorError.SMOOTH)
    for fit in fits.values():
        assert fit.sky_from is not None
        text = json.dumps(fit.to_dict(), allow_nan=False)
        assert ScaleFit.from_dict(json.loads(text)) == fit
