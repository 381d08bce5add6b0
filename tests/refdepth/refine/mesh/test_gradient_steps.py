"""Both ways of gradient steps, on slanted, textured ground seen by three cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from refdepth.geometry.grid import WorkGrid
from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.refine import refine_surface
from refdepth.refine.mesh.result import SurfaceResult
from refdepth.refine.mesh.settings import Appearance, MeshedSettings, SurfaceSettings
from refdepth.refine.paper.refine import refine_descent
from refdepth.refine.paper.settings import ExposureModel, LossWeights, PaperSettings
from refdepth.render import RenderOutput, select_renderer
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.types.camera import PinholeCamera, camera_center, pose_matrix
from refdepth.types.scene import PosedImage, SparseDepth

WIDTH, HEIGHT = 96, 72
CAMERA = PinholeCamera(K=[[90, 0, 48], [0, 90, 36], [0, 0, 1]], width=WIDTH, height=HEIGHT)
NORMAL, OFFSET = np.array([0.25, -0.1, 1.0]), 4.0
"""The ground: points p in world coordinates with NORMAL . p = OFFSET."""
RENDERER = select_renderer("cpu", "cpu")
GAUSS_NEWTON = SurfaceSettings(scales=(2, 1), window_px=7, smoothness=1.0)
ADAM = PaperSettings(
    scales=(2, 1),
    decimation=1,
    targets=0,
    learning_rate=5e-3,
    lateral=False,
    exposure=ExposureModel.GAIN_BIAS,
    edge_band_px=0,
    weights=LossWeights(
        color=0,
        shape=0,
        points=1,
        points_huber=0.05,
        edges=0,
        shift=0,
        normals=0,
        robust=1,
        gradient=2,
        smoothness=50,
    ),
)
"""Other terms than the published ones, on vertices that stay on their rays."""
PAPER = PaperSettings()
STEPS = {"gauss_newton": 10, "adam": 40, "paper": 40}


def paint(points: np.ndarray) -> np.ndarray:
    """A smooth colour pattern (..., 3) fixed to the ground."""
    x, y = points[..., 0:1], points[..., 1:2]
    angle = np.array([0.0, 1.0, 2.2])
    waves = [np.sin(9 * x + 5 * y + angle), np.sin(-4 * x + 11 * y), np.sin(17 * x + 2 - angle)]
    return (0.5 + 0.15 * sum(waves)).astype(np.float32)


def photograph(tx: float, ty: float) -> PosedImage:
    pose = pose_matrix(np.eye(3), [tx, ty, 0.0])
    rays = CAMERA.rays()
    centre = camera_center(pose)
    distance = (OFFSET - NORMAL @ centre) / (rays @ NORMAL)
    return PosedImage(
        camera=CAMERA, cam_from_world=pose, image=paint(centre + rays * distance[..., None])
    )


REF = photograph(0.0, 0.0)
SOURCES = [photograph(0.7, 0.05), photograph(-0.6, 0.2), photograph(0.05, -0.7)]
TRUTH = (OFFSET / (CAMERA.rays() @ NORMAL)).astype(np.float32)
INNER = np.s_[16:-16, 18:-18]
"""What enough sources see."""


def perturbed() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    return (TRUTH * np.exp(0.06 * np.sin(6 * x) * np.cos(5 * y))).astype(np.float32)


def no_points() -> SparseDepth:
    return sparse_points(0)


def sparse_points(count: int, error: float = 1.0) -> SparseDepth:
    xy = np.random.default_rng(0).uniform(1, [WIDTH - 1, HEIGHT - 1], (count, 2))
    return SparseDepth(
        xy=xy,
        depth=OFFSET / (CAMERA.rays(xy) @ NORMAL) * error,
        error_px=np.full(count, 0.5),
        track_length=np.full(count, 3),
        point_index=np.arange(count),
    )


def working(photo: PosedImage) -> WorkingView:
    return WorkingView.of(photo, max_pixels=600_000)


def name_of(settings: MeshedSettings) -> str:
    if isinstance(settings, SurfaceSettings):
        return "gauss_newton"
    return "paper" if settings.decimation < 1 else "adam"


def refine(
    settings: MeshedSettings,
    depth: np.ndarray | None = None,
    *,
    ref: PosedImage = REF,
    sources: Sequence[PosedImage] = SOURCES,
    sparse: SparseDepth | None = None,
    iterations: int | None = None,
    seed: int = 0,
    **options: object,
) -> SurfaceResult:
    depth = perturbed() if depth is None else depth
    common = {
        "depth": depth,
        "sparse": no_points() if sparse is None else sparse,
        "settings": settings,
        "iterations": STEPS[name_of(settings)] if iterations is None else iterations,
        "renderer": RENDERER,
        **options,
    }
    views = working(ref), [working(source) for source in sources]
    if isinstance(settings, SurfaceSettings):
        return refine_surface(*views, **common)  # type: ignore[arg-type]
    return refine_descent(*views, **{"shape_prior": depth, "seed": seed, **common})  # type: ignore[arg-type]


def error(depth: np.ndarray) -> float:
    return float(np.abs(depth[INNER] / TRUTH[INNER] - 1).mean())


class Memory:
    """A checkpoint that keeps every state it was given."""

    def __init__(self, state: dict[str, np.ndarray] | None = None) -> None:
        self.state = state
        self.saved: list[dict[str, np.ndarray]] = []

    def load(self) -> dict[str, np.ndarray] | None:
        return self.state

    def save(self, state: dict[str, np.ndarray]) -> None:
        self.saved.append({name: value.copy() for name, value in state.items()})


def settings_named(name: str) -> MeshedSettings:
    return {"gauss_newton": GAUSS_NEWTON, "adam": ADAM, "paper": PAPER}[name]


def test_gauss_newton_finds_the_true_depth_from_a_perturbed_start() -> None:
    result = refine(GAUSS_NEWTON)
    assert error(perturbed()) > 0.02
    assert error(result.depth) < 0.2 * error(perturbed())
    levels = result.record["levels"]
    assert [level["scale"] for level in levels] == [2, 1]
    assert all(level["loss_last"] < level["loss_first"] for level in levels)


def test_adam_comes_much_closer_to_the_true_depth() -> None:
    assert error(refine(ADAM, iterations=100).depth) < 0.4 * error(perturbed())


def test_the_paper_variant_moves_towards_the_true_depth() -> None:
    normals = np.broadcast_to(-NORMAL / np.linalg.norm(NORMAL), (HEIGHT, WIDTH, 3))
    result = refine(
        PAPER,
        shape_prior=TRUTH,
        sparse=sparse_points(50),
        iterations=80,
        normals=normals.astype(np.float32),
    )
    assert error(result.depth) < 0.7 * error(perturbed())


def test_the_start_that_is_right_stays_right() -> None:
    assert error(refine(GAUSS_NEWTON, TRUTH).depth) < 2e-3


@pytest.mark.parametrize("name", ["gauss_newton", "adam"])
def test_a_change_of_exposure_does_not_matter(name: str) -> None:
    dark = [replace(source, image=source.image * np.float32(0.6)) for source in SOURCES]
    settings = settings_named(name)
    plain = error(refine(settings).depth)
    assert error(refine(settings, sources=dark).depth) < 1.2 * plain + 1e-3


def test_an_exposure_model_is_what_makes_colours_comparable() -> None:
    dark = [replace(source, image=source.image * np.float32(0.6)) for source in SOURCES]
    without = ADAM.model_copy(update={"exposure": ExposureModel.NONE})
    assert error(refine(ADAM, sources=dark).depth) < error(refine(without, sources=dark).depth)


@pytest.mark.parametrize("name", ["gauss_newton", "adam", "paper"])
def test_masked_and_unknown_pixels_are_not_touched(name: str) -> None:
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[20:50, 30:60] = False
    start = perturbed()
    start[:8] = 0
    result = refine(settings_named(name), start, ref=replace(REF, mask=mask))
    np.testing.assert_array_equal(result.depth[~mask], start[~mask])
    assert (result.depth[:8] == 0).all()
    assert (result.depth[mask & (start > 0)] != start[mask & (start > 0)]).mean() > 0.5


def test_what_a_mask_hides_in_the_reference_has_no_influence() -> None:
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[20:50, 30:60] = False
    spoiled = REF.image.copy()
    spoiled[24:46, 34:56] = 0
    # The local contrast looks half a window beyond the mask; colours do not.
    settings = GAUSS_NEWTON.model_copy(update={"appearance": Appearance.COLOR})
    clean = refine(settings, ref=replace(REF, mask=mask)).depth
    found = refine(settings, ref=replace(REF, mask=mask, image=spoiled)).depth
    np.testing.assert_array_equal(found, clean)


def test_a_masked_source_has_no_influence() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    spoiled = replace(SOURCES[2], image=np.zeros_like(SOURCES[2].image), mask=nothing)
    settings = GAUSS_NEWTON.model_copy(update={"appearance": Appearance.COLOR})
    clean = refine(settings, sources=[*SOURCES[:2], replace(SOURCES[2], mask=nothing)])
    found = refine(settings, sources=[*SOURCES[:2], spoiled])
    np.testing.assert_array_equal(found.depth, clean.depth)


@pytest.mark.parametrize("name", ["gauss_newton", "adam", "paper"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mesh.refine", "paper.refine"):
        monkeypatch.setattr(f"refdepth.refine.{module}.SAVE_EVERY", 3)
    settings = settings_named(name)
    if isinstance(settings, PaperSettings):
        settings = settings.model_copy(update={"targets": 2})
    memory = Memory()
    whole = refine(settings, sparse=sparse_points(20), checkpoint=memory, seed=5)
    assert len(memory.saved) >= 3
    for state in (memory.saved[0], memory.saved[-1]):
        done: list[int] = []
        resumed = refine(
            settings,
            sparse=sparse_points(20),
            checkpoint=Memory(state),
            seed=5,
            progress=lambda step, total: done.append(step),  # noqa: B023
        )
        np.testing.assert_array_equal(resumed.depth, whole.depth)
        assert resumed.record["levels"] == whole.record["levels"]
        assert len(done) == STEPS[name] - len(state["losses"])


def test_same_seed_same_bits_and_another_draws_other_targets() -> None:
    settings = ADAM.model_copy(update={"targets": 1})
    first, again, other = (refine(settings, seed=seed, iterations=8).depth for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (other != first).any()


def test_sfm_points_hold_what_photos_cannot_tell() -> None:
    plain = replace(REF, image=np.full_like(REF.image, 0.5))
    blank = [replace(source, image=np.full_like(source.image, 0.5)) for source in SOURCES]
    start = TRUTH * np.float32(1.03)
    found = refine(GAUSS_NEWTON, start, ref=plain, sources=blank, sparse=sparse_points(60))
    assert error(found.depth) < 0.2 * error(start)
    alone = refine(GAUSS_NEWTON, start, ref=plain, sources=blank)
    np.testing.assert_allclose(alone.depth, start, rtol=1e-6)


def test_full_resolution_detail_of_the_start_survives() -> None:
    # Finer than the vertices' stride of 4, and nothing at the vertices themselves.
    detail = 1 + 2e-3 * np.tile(np.float32([0, 1, 0, -1]), WIDTH // 4)
    found = refine(GAUSS_NEWTON, perturbed() * detail).depth
    ratio = found / TRUTH
    kept = (ratio - ratio.mean())[INNER] * (detail - 1)[None, 18:-18]
    assert kept.mean() > 0.8 * ((detail - 1) ** 2).mean()


def test_large_pictures_are_refined_on_a_smaller_grid() -> None:
    result = refine(GAUSS_NEWTON.model_copy(update={"max_pixels": 4096, "scales": (1,)}))
    assert [level["scale"] for level in result.record["levels"]] == [2]
    assert result.depth.shape == (HEIGHT, WIDTH)
    assert error(result.depth) < 0.6 * error(perturbed())


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"sources": []}, "no_sources"),
        ({"iterations": 0}, "no_iterations"),
        ({"depth": np.zeros((HEIGHT, WIDTH), np.float32)}, "no_surface"),
    ],
)
def test_nothing_to_go_by_leaves_the_start_and_says_so(options: dict, flag: str) -> None:
    result = refine(**{"settings": GAUSS_NEWTON, **options})
    np.testing.assert_array_equal(result.depth, options.get("depth", perturbed()))
    assert result.record["flags"] == [flag]


def test_maps_of_another_size_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="depth must be float32"):
        refine(GAUSS_NEWTON, perturbed()[:-1])
    with pytest.raises(ValueError, match="shape_prior must be float32"):
        refine(ADAM, shape_prior=perturbed()[:-1])


def test_sources_that_look_away_change_nothing() -> None:
    away = replace(SOURCES[0], cam_from_world=pose_matrix(np.diag([-1.0, 1.0, -1.0]), [0, 0, 0]))
    for settings in (GAUSS_NEWTON, ADAM):
        found = refine(settings, sources=[away]).depth
        np.testing.assert_allclose(found, perturbed(), rtol=1e-5)


def test_sources_of_different_size_work_together() -> None:
    half = SOURCES[1].image.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    small = PosedImage(
        camera=WorkGrid(photo=CAMERA, factor=2).camera,
        cam_from_world=SOURCES[1].cam_from_world,
        image=half.astype(np.float32),
    )
    found = refine(GAUSS_NEWTON, sources=[SOURCES[0], small, SOURCES[2]])
    assert error(found.depth) < 0.35 * error(perturbed())


class Compared:
    """The torch renderer, each of whose pictures has to be the CPU renderer's to rounding."""

    def __init__(self) -> None:
        self.own = TorchRenderer(torch.device("cpu"))
        self.name, self.device, self.visibility = "torch", self.own.device, self.own.visibility
        self.pictures = 0

    def render(self, q: torch.Tensor, triangles: torch.Tensor, **options: object) -> RenderOutput:
        found, expected = (one.render(q, triangles, **options) for one in (self.own, RENDERER))
        seen = expected.coverage
        assert seen.float().mean() > 0.7
        assert torch.equal(found.triangle_id, expected.triangle_id)
        torch.testing.assert_close(found.depth, expected.depth, rtol=3e-7, atol=0)
        places = found.place[:, seen], expected.place[:, seen]
        torch.testing.assert_close(*places, rtol=3e-7, atol=2e-6)
        torch.testing.assert_close(found.color, expected.color, rtol=3e-6, atol=3e-6)
        self.pictures += 1
        return found


def test_gauss_newton_ends_with_torch_where_it_does_with_the_cpu() -> None:
    both = Compared()
    sparse = sparse_points(30)
    found = refine(GAUSS_NEWTON, renderer=both, sparse=sparse, iterations=4)
    assert both.pictures == 4  # near and far in one
    expected = refine(GAUSS_NEWTON, sparse=sparse, iterations=4)
    np.testing.assert_allclose(found.depth, expected.depth, rtol=1e-5)
