"""Every class of depth network: what kind it is, in which unit, from the photo to refined depth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints as tiny

from refdepth.api import refine_scene, scale_scene
from refdepth.errors import ConfigurationError, InputError
from refdepth.priors.fit import fit_scale
from refdepth.priors.network import NetworkPrior
from refdepth.priors.network_kinds import kind_note, read_configuration, tells_focal_length
from refdepth.refine.settings import RefineSettings
from refdepth.synthetic import make_scene
from refdepth.synthetic.scene import SyntheticScene
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene

INVERSE, AFFINE, METRIC = PriorKind.INVERSE_AFFINE, PriorKind.AFFINE, PriorKind.METRIC

CLASSES: dict[str, tuple[Callable[[Path], None], PriorKind]] = {
    "depth_anything": (tiny.save_depth_anything, INVERSE),
    "depth_anything_metric": (lambda folder: tiny.save_depth_anything(folder, "metric"), METRIC),
    "dpt": (tiny.save_dpt, INVERSE),
    "dpt_dinov2": (tiny.save_dpt_dinov2, METRIC),
    "depth_pro": (tiny.save_depth_pro, METRIC),
    "glpn": (tiny.save_glpn, METRIC),
    "tipsv2": (tiny.save_tipsv2, METRIC),
    "zoedepth": (tiny.save_zoedepth, METRIC),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, (save, _) in CLASSES.items():
            save(folder / name)
        tiny.save_depth_pro(folder / "depth_pro_blind", field_of_view=False)
    return folder


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=4, width=96, height=64)


@pytest.fixture(scope="module")
def scene(room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return room.to_scene(tmp_path_factory.mktemp("images"), points_per_view=60)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_read_fitted_and_refined(checkpoints: Path, scene: Scene, name: str) -> None:
    network = NetworkPrior(checkpoints / name, device="cpu")
    view = scene.views[0]
    prior = network.estimate(view, scene)
    kind = CLASSES[name][1]
    assert (prior.kind, prior.in_metres) == (kind, kind == METRIC)
    assert prior.covers == view.camera.shape
    assert np.isfinite(prior.values).all()
    assert np.ptp(prior.values) > 1e-3 * np.abs(prior.values).max()
    fit = fit_scale(prior, scene.sparse_depth(view))
    assert (fit.kind, fit.weak) == (kind, False)
    scaled = scale_scene(scene, network)
    settings = RefineSettings.preset("fast").model_copy(update={"iterations": 1})
    refined = refine_scene(scene, scaled, settings=settings, views=[view.name])[view.name]
    assert refined.depth.shape == view.camera.shape
    assert (refined.depth > 0).mean() > 0.5


@pytest.mark.parametrize("name", ["depth_anything", "depth_pro", "zoedepth", "tipsv2", "glpn"])
@pytest.mark.parametrize("asked", PriorKind)
def test_a_kind_that_contradicts_the_checkpoint_is_refused(
    checkpoints: Path, scene: Scene, name: str, asked: PriorKind
) -> None:
    said = CLASSES[name][1]
    network = NetworkPrior(checkpoints / name, device="cpu", kind=asked)
    assert network.identity != NetworkPrior(checkpoints / name).identity
    if asked == said or (said, asked) == (METRIC, AFFINE):
        prior = network.estimate(scene.views[0], scene)
        assert (prior.kind, prior.in_metres) == (asked, asked == METRIC)
    else:
        with pytest.raises(ConfigurationError, match=f"says {said.value}"):
            network.estimate(scene.views[0], scene)


def test_where_the_checkpoint_leaves_it_open_a_kind_is_taken_and_told(
    checkpoints: Path, scene: Scene
) -> None:
    prior = NetworkPrior(checkpoints / "dpt", device="cpu", kind=METRIC).estimate(
        scene.views[0], scene
    )
    assert (prior.kind, prior.in_metres) == (METRIC, False)
    configuration = read_configuration(checkpoints / "dpt")
    assert "inverse_affine values for metric; no metres" in kind_note(configuration, METRIC)
    assert kind_note(configuration, INVERSE) == kind_note(configuration, None) == ""


@pytest.mark.parametrize("model_type", ["prompt_depth_anything", "chmv2"])
@pytest.mark.parametrize("asked", [None, METRIC])
def test_networks_of_another_use_are_refused_whatever_is_asked(
    checkpoints: Path, tmp_path: Path, scene: Scene, model_type: str, asked: PriorKind | None
) -> None:
    folder = shutil.copytree(checkpoints / "depth_anything", tmp_path / "other")
    configuration = read_configuration(folder) | {"model_type": model_type}
    (folder / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(InputError, match=f"a '{model_type}' model (needs|gives)"):
        NetworkPrior(folder, device="cpu", kind=asked).estimate(scene.views[0], scene)


def told(
    network: NetworkPrior, canonical: np.ndarray, field_of_view: float | None
) -> Callable[[Callable[[], Prior]], Prior]:
    """Runs something while the network says that."""
    import torch

    def outputs(_: torch.Tensor) -> dict[str, torch.Tensor | None]:
        angle = None if field_of_view is None else torch.tensor([field_of_view])
        said = torch.from_numpy(canonical[None].astype(np.float32))
        return {"predicted_depth": said, "field_of_view": angle}

    def run(ask: Callable[[], Prior]) -> Prior:
        ask()  # loads it
        assert network._loaded is not None
        network._loaded._model = outputs  # type: ignore[assignment]
        return ask()

    return run


def test_depth_pros_metres_are_those_of_the_cameras_focal_length(
    checkpoints: Path, room: SyntheticScene, scene: Scene
) -> None:
    """z = f / (w c), c the canonical inverse depth; what the network thinks of f does not count."""
    view, depth = scene.views[1], room.views[1].depth[:32, :32]  # of the network's size
    network = NetworkPrior(checkpoints / "depth_pro", device="cpu")
    canonical = view.camera.K[0, 0] / (view.camera.width * depth)
    prior = told(network, canonical, 20.0)(lambda: network.estimate(view, scene))
    assert prior.in_metres
    np.testing.assert_allclose(prior.values, depth, rtol=1e-5)


@pytest.mark.parametrize(("name", "angle"), [("depth_pro", 60.0), ("depth_pro_blind", None)])
def test_without_a_camera_depth_pro_has_its_own_field_of_view_or_no_metres(
    checkpoints: Path, name: str, angle: float | None
) -> None:
    network = NetworkPrior(checkpoints / name, device="cpu")
    picture = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    canonical = np.random.default_rng(1).uniform(0.1, 2, (32, 32))
    prior = told(network, canonical, angle)(lambda: network.estimate_image(picture))
    assert prior.in_metres == (angle is not None)
    focal = 1.0 if angle is None else 16 / np.tan(np.radians(30)) / 32
    np.testing.assert_allclose(prior.values, focal / canonical, rtol=1e-5)


def test_zoedepths_padding_is_cut_off(checkpoints: Path) -> None:
    """A ramp over the padded photo is the ramp over the photo inside."""
    height, width = 72, 128  # padded by 3 sqrt(side / 2): 18 and 24
    network = NetworkPrior(checkpoints / "zoedepth", device="cpu")
    columns = np.tile(np.arange(width + 48) + 1.0, (height + 36, 1))
    picture = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)
    prior = told(network, columns, None)(lambda: network.estimate_image(picture))
    x = (np.arange(prior.values.shape[1]) + 0.5) * prior.step[1] - 0.5
    np.testing.assert_allclose(prior.values[5], x + 25, rtol=0.01)


def test_networks_without_a_size_get_large_photos_shrunk(checkpoints: Path) -> None:
    for name, multiple in (("glpn", 32), ("dpt_dinov2", 14)):
        network = NetworkPrior(checkpoints / name, device="cpu")
        network.estimate_image(np.zeros((64, 96, 3), np.float32) + 0.5)
        assert network._loaded is not None
        height, width = network._loaded._prepare(np.zeros((1500, 2000, 3), np.uint8)).shape[-2:]
        assert height % multiple == width % multiple == 0
        assert height * width == pytest.approx(640 * 480, rel=0.06)
        assert width / height == pytest.approx(4 / 3, rel=0.04)


@pytest.mark.parametrize("degrees", [25.0, 60.0, 110.0])
def test_the_focal_length_that_depth_pro_sees(tmp_path: Path, degrees: float) -> None:
    """Half a picture's width over the focal length is the tangent of half the angle."""
    tiny.save_depth_pro(tmp_path / "wide", degrees=degrees)
    assert tells_focal_length(read_configuration(tmp_path / "wide"))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    focal = NetworkPrior(tmp_path / "wide", device="cpu").focal_length(pixels)
    assert focal is not None
    assert np.degrees(2 * np.arctan(0.5 / focal)) == pytest.approx(degrees, rel=1e-4)


@pytest.mark.parametrize("name", ["depth_pro_blind", "depth_anything", "tipsv2"])
def test_other_networks_see_no_focal_length(checkpoints: Path, name: str) -> None:
    assert not tells_focal_length(read_configuration(checkpoints / name))
    network = NetworkPrior(checkpoints / name, device="cpu")
    assert network.focal_length(np.zeros((48, 64, 3), np.uint8)) is None


@pytest.mark.parametrize("degrees", [-20.0, 0.0, 179.0, float("nan")])
def test_what_no_lens_sees_is_no_focal_length(tmp_path: Path, degrees: float) -> None:
    tiny.save_depth_pro(tmp_path / "odd", degrees=degrees)
    network = NetworkPrior(tmp_path / "odd", device="cpu")
    assert network.focal_length(np.zeros((48, 64, 3), np.uint8)) is None
