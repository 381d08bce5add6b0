"""Given normals as slants to try, against exact depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refdepth.api import refine_scene
from refdepth.geometry.normals import estimate_normals
from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.refine.paper.settings import CoarseSettings, LossWeights
from refdepth.refine.settings import RefineSettings
from refdepth.refine.slant import with_slant
from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.types.camera import PinholeCamera
from refdepth.types.depth_map import DepthMap
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene

Map = NDArray[np.float32]
HEIGHT, WIDTH = 40, 60
CAMERA = PinholeCamera(
    K=np.array([[70.0, 0, 30], [0, 70, 20], [0, 0, 1]]), width=WIDTH, height=HEIGHT
)
NORMAL = np.array([0.5, -0.2, -1.0]) / np.linalg.norm([0.5, -0.2, -1.0])
PLANE = (-2.0 / (CAMERA.rays() @ NORMAL)).astype(np.float32)
LINKS = np.ones((HEIGHT, WIDTH - 1), np.float32), np.ones((HEIGHT - 1, WIDTH), np.float32)
BLOCK = 20
"""Pixels along a side of what a prior has one depth for: everything faces the camera."""


def normals_of(vector: NDArray[np.float64]) -> Map:
    return np.broadcast_to(vector, (HEIGHT, WIDTH, 3)).astype(np.float32)


def test_steps_that_face_the_camera_get_the_slope_of_the_plane() -> None:
    stairs = PLANE.reshape(8, 5, 12, 5).mean(axis=(1, 3)).repeat(5, axis=0).repeat(5, axis=1)
    found = with_slant(stairs, normals_of(NORMAL), CAMERA, LINKS)
    for axis in (0, 1):
        off, before = (np.abs(np.diff(np.log(d / PLANE), axis=axis)) for d in (found, stairs))
        assert np.median(off) < 0.15 * np.median(before)
    assert np.abs(found / PLANE - 1).max() < 0.6 * np.abs(stairs / PLANE - 1).max()


def test_what_is_right_or_not_known_stays() -> None:
    np.testing.assert_allclose(with_slant(PLANE, normals_of(NORMAL), CAMERA, LINKS), PLANE, 1e-5)
    unknown = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    np.testing.assert_array_equal(with_slant(PLANE, unknown, CAMERA, LINKS), PLANE)
    away = normals_of(-NORMAL)
    np.testing.assert_array_equal(with_slant(PLANE, away, CAMERA, LINKS), PLANE)
    holed = PLANE.copy()
    holed[10:20, 10:30] = 0
    found = with_slant(holed, normals_of(NORMAL), CAMERA, LINKS)
    np.testing.assert_array_equal(found == 0, holed == 0)
    np.testing.assert_allclose(found[holed > 0], holed[holed > 0], 1e-5)


def test_slopes_end_where_surfaces_do() -> None:
    """One side has a normal, the other none; between them there is no link."""
    normals = normals_of(NORMAL)
    normals[:, 30:] = 0
    cut = LINKS[0].copy()
    cut[:, 29] = 0
    flat = np.full_like(PLANE, 2.0)
    found = with_slant(flat, normals, CAMERA, (cut, LINKS[1]))
    np.testing.assert_allclose(found[:, 30:], 2, 1e-5)
    assert np.abs(found[:, 5:25] - 2).max() > 1e-3


def test_arrays_and_tensors_give_the_same() -> None:
    import torch

    rng = np.random.default_rng(0)
    base = (PLANE * np.exp(rng.normal(0, 0.01, PLANE.shape))).astype(np.float32)
    base[:5, :5] = 0
    links = tuple(rng.uniform(0, 1, link.shape).astype(np.float32) for link in LINKS)
    normals = normals_of(NORMAL)
    normals[20:25] = 0
    expected = with_slant(base, normals, CAMERA, links)
    put = torch.from_numpy
    found = with_slant(put(base), put(normals), CAMERA, tuple(map(put, links)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-4)


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=4, width=240, height=180)


@pytest.fixture(scope="module")
def scene(room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return room.to_scene(tmp_path_factory.mktemp("images"), points_per_view=120)


@pytest.fixture(scope="module")
def exact(room: SyntheticScene, scene: Scene) -> dict[str, Map]:
    return {
        name: estimate_normals(view.depth, view.camera, radius_px=2, max_ratio=0.05)
        for name, view in zip(scene.names, room.views, strict=True)
    }


@pytest.fixture(scope="module")
def scaled(room: SyntheticScene, scene: Scene) -> dict[str, Map]:
    """Of priors that know where everything is and not how it is turned."""
    priors = {}
    for name, view in zip(scene.names, room.views, strict=True):
        rows, columns = (side // BLOCK for side in view.depth.shape)
        means = view.depth.reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3))
        values = means.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
        priors[name] = Prior(values=values, kind=PriorKind.METRIC)
    fits = fit_scene(priors, {view.name: scene.sparse_depth(view) for view in scene.views}, None)
    return {name: apply_fit(priors[name], fit, sky=np.inf) for name, fit in fits.items()}


def error(room: SyntheticScene, refined: dict[str, DepthMap]) -> tuple[float, float]:
    """Median relative error, and the share of pixels more than 1 % off."""
    exact = {Path(view.name).stem: view.depth for view in room.views}
    off = [np.abs(found.depth / exact[Path(n).stem] - 1).ravel() for n, found in refined.items()]
    joined = np.concatenate(off)
    return float(np.median(joined)), float((joined > 0.01).mean())


def mirrored(normals: Map) -> Map:
    return normals * np.float32([-1, -1, 1])


def facing(normals: Map) -> Map:
    return np.broadcast_to(np.float32([0, 0, -1]), normals.shape)


def random(normals: Map) -> Map:
    blocks = np.random.default_rng(0).normal(size=(9, 12, 3)).astype(np.float32)
    blocks[..., 2] = -np.abs(blocks[..., 2])
    blocks /= np.linalg.norm(blocks, axis=2, keepdims=True)
    return blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


@pytest.fixture(scope="module")
def plain(room: SyntheticScene, scene: Scene, scaled: dict[str, Map]) -> tuple[float, float]:
    return error(room, refine_scene(scene, scaled, settings=RefineSettings.preset("fast")))


def test_exact_normals_help(
    room: SyntheticScene,
    scene: Scene,
    scaled: dict[str, Map],
    exact: dict[str, Map],
    plain: tuple[float, float],
) -> None:
    settings = RefineSettings.preset("fast")
    found = error(room, refine_scene(scene, scaled, settings=settings, normals=exact))
    assert found[0] < 0.98 * plain[0]
    assert found[1] < plain[1] - 0.005


@pytest.mark.parametrize("spoil", [mirrored, facing, random])
def test_wrong_normals_do_no_harm(
    room: SyntheticScene,
    scene: Scene,
    scaled: dict[str, Map],
    exact: dict[str, Map],
    plain: tuple[float, float],
    spoil: Callable[[Map], Map],
) -> None:
    wrong = {name: spoil(normals) for name, normals in exact.items()}
    settings = RefineSettings.preset("fast")
    found = error(room, refine_scene(scene, scaled, settings=settings, normals=wrong))
    assert found[0] < 1.02 * plain[0]
    assert found[1] < plain[1] + 0.005


def test_the_published_methods_normal_term_sees_them(
    room: SyntheticScene, scene: Scene, scaled: dict[str, Map], exact: dict[str, Map]
) -> None:
    preset = RefineSettings.preset("paper")
    paper = preset.paper.model_copy(
        update={
            "iterations": 20,
            "learning_rate": 0.004,
            "targets": 1,
            "coarse": CoarseSettings(iterations=0),
            "weights": LossWeights(shape=0, edges=0, normals=10),
        }
    )
    settings = preset.model_copy(update={"paper": paper, "sources": 2})
    name = scene.names[1]

    def cosine(normals: dict[str, Map] | None) -> float:
        refined = refine_scene(scene, scaled, settings=settings, views=[name], normals=normals)
        depth = refined[name].depth
        found = estimate_normals(depth, scene[name].camera, radius_px=4, max_ratio=0.05)
        return float((found * exact[name]).sum(axis=2).mean())

    assert cosine(exact) > cosine(None) + 0.02
