"""Gauss-Newton steps in tensor operations against those in compiled loops, on rippled ground seen
by three cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from refdepth.geometry.working_view import WorkingView
from refdepth.refine.mesh.refine import refine_surface
from refdepth.refine.mesh.result import SurfaceResult
from refdepth.refine.mesh.settings import Appearance, SurfaceSettings
from refdepth.render import torch_visibility
from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.scene import PosedImage, SparseDepth

WIDTH, HEIGHT = 93, 70
CAMERA = PinholeCamera(K=[[90, 0, 48], [0, 90, 36], [0, 0, 1]], width=WIDTH, height=HEIGHT)
SETTINGS = SurfaceSettings(scales=(2, 1), window_px=7, smoothness=1.0)
DISTANCE = 4.0


class OnTensors(CpuRenderer):
    """The CPU renderer under another name: what surrounds it is computed in tensor operations."""

    name = "other"


def photograph(tx: float, ty: float) -> PosedImage:
    pose = pose_matrix(np.eye(3), [tx, ty, 0.0])
    x, y = np.moveaxis(CAMERA.rays()[..., :2] * DISTANCE - [tx, ty], -1, 0)
    waves = np.sin(9 * x + 5 * y) + np.sin(-4 * x + 11 * y) + np.sin(17 * x + 2)
    image = np.stack([0.5 + 0.15 * waves, 0.5 - 0.1 * waves, 0.4 + 0.1 * waves], axis=-1)
    return PosedImage(camera=CAMERA, cam_from_world=pose, image=image.astype(np.float32))


REF = photograph(0.0, 0.0)
SOURCES = [photograph(0.7, 0.05), photograph(-0.6, 0.2), photograph(0.05, -0.7)]


def start() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    depth = DISTANCE * np.exp(0.06 * np.sin(6 * x) * np.cos(5 * y))
    depth[:, WIDTH // 2 :] *= 1 + 0.3 * (y[:, WIDTH // 2 :] > 0.6)  # a step to cut at
    depth[:5, :7] = 0
    return depth.astype(np.float32)


def points(count: int) -> SparseDepth:
    rng = np.random.default_rng(0)
    return SparseDepth(
        xy=rng.uniform(1, [WIDTH - 1, HEIGHT - 1], (count, 2)),
        depth=rng.normal(DISTANCE, 0.02, count),
        error_px=rng.uniform(0.2, 2, count),
        track_length=np.full(count, 3),
        point_index=np.arange(count),
    )


def refine(renderer: CpuRenderer, depth: Any, **options: Any) -> SurfaceResult:
    given = {
        "ref": REF,
        "sources": SOURCES,
        "sparse": points(40),
        "settings": SETTINGS,
        "iterations": 6,
        **options,
    }
    ref, *sources = (
        WorkingView.of(photo, max_pixels=600_000)
        for photo in (given.pop("ref"), *given.pop("sources"))
    )
    return refine_surface(ref, sources, depth=depth, renderer=renderer, **given)


def masked(photo: PosedImage) -> PosedImage:
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[20:45, 30:55] = False
    return replace(photo, mask=mask)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sparse": points(0)},
        {"ref": masked(REF), "sources": [SOURCES[0], masked(SOURCES[1])]},
        {"settings": SETTINGS.model_copy(update={"appearance": Appearance.COLOR})},
        {"settings": SETTINGS.model_copy(update={"max_pixels": 4096, "scales": (1,)})},
    ],
    ids=["plain", "no points", "masks", "colours", "reduced"],
)
def test_tensors_end_where_loops_do(options: dict[str, Any]) -> None:
    expected = refine(CpuRenderer(), start(), **options)
    found = refine(OnTensors(), start(), **options)
    assert isinstance(found.depth, np.ndarray)
    assert np.abs(expected.depth / np.where(start() > 0, start(), 1) - 1).mean() > 5e-3
    np.testing.assert_allclose(found.depth, expected.depth, rtol=1e-4)
    assert found.record["triangles"] == expected.record["triangles"]
    for one, other in zip(found.record["levels"], expected.record["levels"], strict=True):
        np.testing.assert_allclose(one["losses"], other["losses"], rtol=1e-3)


def test_the_result_is_where_the_depth_was() -> None:
    given = torch.from_numpy(start())
    on_tensors, in_loops = (refine(one, given).depth for one in (OnTensors(), CpuRenderer()))
    assert isinstance(on_tensors, torch.Tensor)
    assert isinstance(in_loops, torch.Tensor)
    torch.testing.assert_close(on_tensors, in_loops, rtol=1e-4, atol=0)


def test_nothing_to_mesh_is_said() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    assert refine(OnTensors(), nothing).record["flags"] == ["no_surface"]


class _Kept:
    """A checkpoint in memory."""

    def __init__(self, state: dict[str, np.ndarray] | None = None) -> None:
        self.state = state
        self.saved: list[int] = []
        """After how many steps each time."""

    def load(self) -> dict[str, np.ndarray] | None:
        return self.state

    def save(self, state: dict[str, np.ndarray]) -> None:
        self.state = {name: value.copy() for name, value in state.items()}
        self.saved.append(len(state["losses"]))


def test_an_interrupted_run_goes_on_to_the_same_bits() -> None:
    kept = _Kept()
    whole = refine(OnTensors(), start(), checkpoint=kept)
    assert len(kept.state["losses"]) == 4
    again = refine(OnTensors(), start(), checkpoint=_Kept(kept.state))
    np.testing.assert_array_equal(again.depth, whole.depth)


class ReadsEachTime(TorchRenderer):
    """Waits for its device at every picture."""

    def for_steps(self) -> tuple[TorchRenderer, torch.Tensor]:
        return self, torch.zeros((), dtype=torch.bool)


@pytest.mark.parametrize("scales", [(2, 1), (1,)])
def test_a_mesh_that_grows_between_steps_is_drawn_whole(
    scales: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins too near, and more of it comes into the pictures as it moves away."""
    monkeypatch.setattr(torch_visibility, "MARGIN", 0.025)
    depth, cpu = (0.7 * start()).astype(np.float32), torch.device("cpu")
    told: list[torch.Tensor] = []
    for_steps = TorchRenderer.for_steps

    def watched(renderer: TorchRenderer) -> tuple[TorchRenderer, torch.Tensor]:
        made = for_steps(renderer)
        told.append(made[1])
        return made

    monkeypatch.setattr(TorchRenderer, "for_steps", watched)
    kept = _Kept()
    options = {"settings": SETTINGS.model_copy(update={"scales": scales}), "iterations": 8}
    found = refine(TorchRenderer(cpu), depth, checkpoint=kept, **options)
    expected = refine(ReadsEachTime(cpu), depth, **options)
    assert told == [True]
    np.testing.assert_array_equal(found.depth, expected.depth)
    assert found.record["levels"] == expected.record["levels"]
    assert kept.saved == [2, 4, 6]  # none of steps that came to nothing
