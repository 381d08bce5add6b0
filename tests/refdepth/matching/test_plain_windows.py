"""Windows of walls with next to no texture, compared as in double precision: by the loops and by
tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.arrays import fetch, put
from refdepth.geometry.working_view import WorkingView
from refdepth.matching.cost import Comparison, Windows
from refdepth.matching.cost_kernels import MIN_VARIANCE
from refdepth.matching.settings import MatchSettings
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.scene import PosedImage

HEIGHT, WIDTH = 40, 90
SHIFT, SIDE, SUPPORT = 3, 5, 0.1
LEVEL = 1 / 256
CAMERA = PinholeCamera(
    K=np.array([[80.0, 0, 45], [0, 80, 20], [0, 0, 1]]), width=WIDTH, height=HEIGHT
)


def wall(gray: float, exposure: float) -> tuple[WorkingView, WorkingView]:
    """Two photos of a wall at depth 1, brighter to the right, with texture of a grey level and
    noise of half of one; a point of it lies `SHIFT` pixels further left in the other."""
    rng = np.random.default_rng(2)
    texture = rng.normal(0, LEVEL, (HEIGHT, WIDTH + SHIFT))
    surface = gray + np.linspace(0, 0.1, WIDTH + SHIFT) + texture
    noise = rng.normal(0, LEVEL / 2, (HEIGHT, WIDTH))
    views = []
    for shift, picture in (
        (0, surface[:, :WIDTH]),
        (SHIFT, surface[:, SHIFT:] + exposure + noise),
    ):
        image = np.repeat(picture[..., None], 3, axis=-1).astype(np.float32)
        pose = pose_matrix(np.eye(3), [-shift / 80, 0, 0])
        photo = PosedImage(camera=CAMERA, cam_from_world=pose, image=image)
        views.append(WorkingView.of(photo, max_pixels=10**6, least_factor=1))
    return views[0], views[1]


def windows_of(picture: np.ndarray) -> np.ndarray:
    """Each whole window (H', W', side, side) in double precision."""
    return np.lib.stride_tricks.sliding_window_view(picture.astype(np.float64), (SIDE, SIDE))


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(("gray", "exposure"), [(0.5, 0.0), (0.85, -0.3), (0.4, 0.5)])
def test_a_faint_texture_correlates_as_in_double_precision(
    device: str | None, gray: float, exposure: float
) -> None:
    ref, source = wall(gray, exposure)
    g, j = windows_of(ref.gray[:, SHIFT:]), windows_of(source.gray[:, :-SHIFT])
    middle = g[..., SIDE // 2, SIDE // 2, None, None]
    w = np.exp(-np.abs(g - middle) / SUPPORT)
    w /= w.sum((2, 3), keepdims=True)
    g, j = (each - (w * each).sum((2, 3), keepdims=True) for each in (g, j))
    of_ref, of_source = (np.maximum((w * each**2).sum((2, 3)), MIN_VARIANCE) for each in (g, j))
    expected = np.clip(1 - (w * g * j).sum((2, 3)) / np.sqrt(of_ref * of_source), 0, 1.5)
    assert 0.05 < np.median(expected) < 0.5

    on = None if device is None else torch.device(device)
    windows = Windows.of(ref.on(on), MatchSettings(window_px=SIDE, support_gray=SUPPORT))
    depth = put(np.ones((HEIGHT, WIDTH), np.float32), on)
    cost = fetch(Comparison.of(windows, [source.on(on)]).cost(depth))
    inner = np.s_[SIDE // 2 : -(SIDE // 2), SHIFT + SIDE // 2 : -(SIDE // 2)]
    off = np.abs(cost[inner] - expected)[:, 1:-1]  # but at the very edge of what is seen
    assert off.max() < 1e-4
    np.testing.assert_allclose(fetch(windows.variance)[inner], of_ref, rtol=1e-4)
