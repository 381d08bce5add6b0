"""Detail from a guided network: taken where photos agree with it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tiny_checkpoints import save_prompt_depth_anything

from refdepth.api import refine_scene
from refdepth.errors import ConfigurationError
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.settings import PropagationSettings
from refdepth.priors.prompted import PromptedNetwork
from refdepth.refine.rounds import second_round
from refdepth.refine.settings import Method, RefineSettings, UpsamplerSettings
from refdepth.refine.upsample import take_detail
from refdepth.synthetic import make_scene
from refdepth.synthetic.detail import Detail, make_detail
from refdepth.synthetic.view import SyntheticView
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage, SparseDepth

Map = NDArray[np.float32]


def settings_for(width: int) -> RefineSettings:
    """Photos of this width are reduced by five, then by two."""
    size = width * width * 3 // 4
    upsampler = UpsamplerSettings(model="any", max_pixels=size // 4)
    return RefineSettings(working_pixels=size // 24, iterations=0, upsampler=upsampler)


SETTINGS = settings_for(320)
NO_POINTS = SparseDepth(
    xy=np.zeros((0, 2)),
    depth=np.zeros(0),
    error_px=np.zeros(0),
    track_length=np.zeros(0, np.int64),
    point_index=np.zeros(0, np.int64),
)


@dataclass
class Says:
    """An upsampler that says `depth`, whatever it is told; it remembers what that was."""

    depth: Map
    prompt: Map | None = None
    shape: tuple[int, int] = (0, 0)

    def __call__(self, pixels: NDArray[np.uint8], prompt: Map, shape: tuple[int, int]) -> Map:
        assert (pixels.shape, pixels.dtype) == ((*self.depth.shape, 3), np.uint8)
        self.prompt, self.shape = prompt, shape
        rows, columns = (
            ((np.arange(count) + 0.5) * size / count).astype(int)
            for count, size in zip(shape, self.depth.shape, strict=True)
        )
        return self.depth[np.ix_(rows, columns)]


@pytest.fixture(scope="module")
def wall() -> Detail:
    return make_detail(views=5, width=320, height=240)


@pytest.fixture(scope="module")
def view(wall: Detail) -> SyntheticView:
    return wall.scene.views[-1]


def working_views(wall: Detail, settings: RefineSettings) -> list[WorkingView]:
    return [
        WorkingView.of(
            PosedImage(camera=view.camera, cam_from_world=view.cam_from_world, image=view.image),
            **settings.grid,
        )
        for view in wall.scene.views[::-1]
    ]


def without_bars(wall: Detail) -> Map:
    """Exact depth in which all bars are missing."""
    view = wall.scene.views[-1]
    behind = np.median(view.depth[view.surface == wall.smooth[0]])
    gone = np.isin(view.surface, [bar.surface for bar in wall.bars])
    return np.where(gone, behind, view.depth).astype(np.float32)


@pytest.fixture(scope="module")
def working(wall: Detail) -> list[WorkingView]:
    return working_views(wall, SETTINGS)


@pytest.fixture(scope="module")
def smooth(wall: Detail) -> Map:
    return without_bars(wall)


def slow_factor(shape: tuple[int, int]) -> Map:
    """A network's own idea of the scene: up to a tenth off, slowly."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    return np.exp(0.05 * np.sin(2.5 * rows) + 0.05 * columns).astype(np.float32)


def pixels_of(view: SyntheticView) -> NDArray[np.uint8]:
    return np.round(view.image * 255).astype(np.uint8)


def off(depth: Map, view: SyntheticView) -> Map:
    return np.abs(depth / view.depth - 1)


def test_exact_detail_is_taken_and_slow_errors_of_the_network_are_not() -> None:
    wall, settings = make_detail(views=5, width=640, height=480), settings_for(640)
    view, depth = wall.scene.views[-1], without_bars(wall)
    ref, *sources = working_views(wall, settings)
    says = Says(view.depth * slow_factor(view.depth.shape))
    found, share = take_detail(ref, sources, depth, says, settings)
    assert (ref.grid.factor, says.shape) == (5, (240, 320))
    np.testing.assert_array_equal(says.prompt, ref.grid.shrink_depth(depth))
    before, after = off(depth, view), off(found, view)
    for width, least in ((0.016, 0.4), (0.025, 0.7)):  # four and six pixels
        bars = np.isin(view.surface, [bar.surface for bar in wall.bars if bar.width == width])
        assert np.mean(before[bars] < 0.02) < 0.05
        assert np.mean(after[bars] < 0.02) > least
    plain = view.surface == wall.smooth[0]
    assert np.mean(after[plain] > 0.02) < 0.01  # beside bars
    assert np.quantile(after[plain], 0.95) < 0.003  # where the network says up to 0.1
    assert 0.01 < share < 0.2


def nonsense(kind: str, view: SyntheticView) -> Map:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(view.depth.shape)
    if kind == "noise":
        return (view.depth * np.exp(0.1 * noise)).astype(np.float32)
    if kind == "bumps":
        bumps = gaussian_filter(noise, 4)
        return (view.depth * np.exp(0.08 * bumps / bumps.std())).astype(np.float32)
    if kind == "mirrored":
        return np.ascontiguousarray(view.depth[:, ::-1])
    return np.full_like(view.depth, {"nan": np.nan, "zero": 0, "endless": np.inf}.get(kind, 1.0))


@pytest.mark.parametrize("kind", ["noise", "bumps", "mirrored", "flat", "nan", "zero", "endless"])
def test_nonsense_makes_nothing_worse(
    view: SyntheticView, working: list[WorkingView], kind: str
) -> None:
    depth = view.depth * np.float32(1.001)
    says = Says(nonsense(kind, view))
    found, share = take_detail(working[0], working[1:], depth, says, SETTINGS)
    assert np.isfinite(found).all()
    assert share < 0.02
    before, after = off(depth, view), off(found, view)
    assert np.mean(after > 0.01) < 0.005
    assert np.median(after) == pytest.approx(np.median(before), abs=2e-5)
    if kind in ("nan", "zero", "endless"):
        np.testing.assert_array_equal(found, depth)


def test_without_a_finer_grid_nothing_is_asked(
    view: SyntheticView, working: list[WorkingView], smooth: Map
) -> None:
    says = Says(view.depth)
    settings = SETTINGS.model_copy(update={"upsampler": UpsamplerSettings(max_pixels=3100)})
    found, share = take_detail(working[0], working[1:], smooth, says, settings)
    assert found is smooth
    assert (share, says.prompt) == (0.0, None)


def test_unknown_depth_stays_unknown_and_far_depth_is_kept_from_the_network(
    view: SyntheticView, working: list[WorkingView], smooth: Map
) -> None:
    depth = smooth.copy()
    depth[:40, :60], depth[200:, 200:] = 0, 50
    says = Says(view.depth)
    found, _ = take_detail(working[0], working[1:], depth, says, SETTINGS, farthest=5.0)
    assert (found[depth == 0] == 0).all()
    assert says.prompt is not None
    assert 0 < says.prompt.min() < says.prompt.max() == 5
    nothing, share = take_detail(
        working[0], working[1:], np.zeros_like(depth), Says(view.depth), SETTINGS
    )
    assert share == nothing.max() == 0


def test_on_tensors_it_finds_the_same(
    view: SyntheticView, working: list[WorkingView], smooth: Map
) -> None:
    says = Says(view.depth * slow_factor(view.depth.shape))
    expected, share = take_detail(working[0], working[1:], smooth, says, SETTINGS)
    ref, *sources = (view.on(torch.device("cpu")) for view in working)
    found, again = take_detail(ref, sources, torch.from_numpy(smooth), says, SETTINGS)
    assert np.mean(np.abs(found.numpy() / expected - 1) < 1e-3) > 0.98
    assert again == pytest.approx(share, abs=0.01)


def test_the_second_round_ends_with_it(
    wall: Detail, view: SyntheticView, working: list[WorkingView], smooth: Map
) -> None:
    def refined(upsampler: Says | None, **changes: object) -> tuple[Map, dict]:
        found = second_round(
            working[0],
            working[1:],
            scaled=smooth,
            sparse=NO_POINTS,
            first=coarse[0],
            source_depths=coarse[1:],
            settings=SETTINGS.model_copy(update={"held_out": False, **changes}),
            upsampler=upsampler,
            prior_error=0.01,
        )
        return found.depth, found.record

    coarse = [
        DepthMap(depth=there, confidence=np.full_like(there, 0.5))
        for there in (
            working[index].grid.shrink_depth(smooth if index == 0 else other.depth)
            for index, other in enumerate(wall.scene.views[::-1])
        )
    ]
    without, record = refined(None)
    assert "detail_share" not in record
    depth, record = refined(Says(view.depth))
    assert record["detail_share"] > 0
    bars = np.isin(view.surface, [bar.surface for bar in wall.bars if bar.width == 0.025])
    plain = view.surface == wall.smooth[0]
    good = [
        [np.mean(off(found, view)[thing] < 0.02) for thing in (bars, plain)]
        for found in (without, depth)
    ]
    assert good[1][0] > good[0][0] + 0.1
    assert good[1][1] > good[0][1] - 0.01


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "prompted"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_prompt_depth_anything(folder)
    return folder


def test_the_network_answers_in_the_unit_it_is_asked_in(tiny: Path, view: SyntheticView) -> None:
    network, pixels = PromptedNetwork(tiny), pixels_of(view)
    prompt = view.depth[::5, ::5]
    told = network(pixels, prompt, (120, 160))
    assert told.shape == (126, 168)  # patches of 14
    assert np.ptp(told) > 0.01 * prompt.mean()
    in_feet = network(pixels, prompt / np.float32(0.3048), (120, 160))
    np.testing.assert_allclose(in_feet * 0.3048, told, rtol=1e-4)
    other = network(pixels, prompt[:, ::-1].copy(), (120, 160))
    assert np.abs(other / told - 1).max() > 1e-3  # it looks at what it is told
    dark = network(0 * pixels, prompt, (120, 160))
    assert np.abs(dark / told - 1).max() > 1e-3
    assert np.isnan(network(pixels, np.full_like(prompt, 2.0), (120, 160))).all()


def test_the_network_is_the_one_that_transformers_runs(tiny: Path, view: SyntheticView) -> None:
    from transformers import AutoImageProcessor, PromptDepthAnythingForDepthEstimation

    prompt = view.depth[::5, ::5].copy()
    shape = 126, 168
    told = PromptedNetwork(tiny)(pixels_of(view), prompt, shape)
    processor = AutoImageProcessor.from_pretrained(tiny, backend="pil")
    inputs = processor(
        images=pixels_of(view),
        prompt_depth=prompt,
        prompt_scale_to_meter=1.0,
        size={"height": shape[0], "width": shape[1]},
        keep_aspect_ratio=False,
        return_tensors="pt",
    )
    model = PromptDepthAnythingForDepthEstimation.from_pretrained(tiny).eval()
    with torch.inference_mode():
        expected = model(**inputs).predicted_depth[0].numpy()
    np.testing.assert_allclose(told, expected, rtol=1e-4)


def test_untrained_weights_do_no_harm_through_all_of_it(tiny: Path, tmp_path: Path) -> None:
    synthetic = make_scene(views=4, width=160, height=120)
    scene = synthetic.to_scene(tmp_path, points_per_view=60)
    truth = dict(zip(scene.names, (view.depth for view in synthetic.views), strict=True))
    scaled = {name: depth * np.float32(1.02) for name, depth in truth.items()}
    name = scene.names[0]
    errors = []
    for model in ("", str(tiny)):
        settings = SETTINGS.model_copy(
            update={"upsampler": UpsamplerSettings(model=model, max_pixels=6000)}
        )
        depth = refine_scene(scene, scaled, settings=settings, views=[name])[name].depth
        errors.append(np.abs(depth / truth[name] - 1))
    assert np.mean(errors[1]) < 1.01 * np.mean(errors[0])
    assert np.mean(errors[1] > 0.03) < np.mean(errors[0] > 0.03) + 0.002


def test_another_kind_of_network_is_refused(tmp_path: Path, view: SyntheticView) -> None:
    from tiny_checkpoints import save_depth_anything

    save_depth_anything(tmp_path / "plain")
    with pytest.raises(ConfigurationError, match=r"refine\.upsampler\.model.*'depth_anything'"):
        PromptedNetwork(tmp_path / "plain")(pixels_of(view), view.depth, (120, 160))


@pytest.mark.parametrize(
    "change", [lambda s: s, lambda s: s.model_copy(update={"method": Method.PAPER})]
)
def test_switched_off_it_is_no_part_of_what_determines_a_result(
    change: Callable[[RefineSettings], RefineSettings],
) -> None:
    plain = change(RefineSettings())
    assert "upsampler" not in plain.result_fields()
    assert not plain.upsamples
    other = UpsamplerSettings(max_pixels=9999, spread=PropagationSettings(smoothness=1.0))
    assert plain.model_copy(update={"upsampler": other}).result_fields() == plain.result_fields()


def test_what_determines_a_result_is_the_network_and_not_its_place() -> None:
    fields = SETTINGS.result_fields()["upsampler"]
    assert set(fields) == {"max_pixels", "match", "spread"}
