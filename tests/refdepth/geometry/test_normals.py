"""Normals of depth maps against exact planes and a plain least squares fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from refdepth.geometry.normals import estimate_normals
from refdepth.types.camera import PinholeCamera

CAMERA = PinholeCamera(
    K=np.array([[60.0, 0, 21.5], [0, 55.0, 14.0], [0, 0, 1]]), width=40, height=30
)


def plane(normal: tuple[float, float, float], distance: float) -> np.ndarray:
    """Depth (30, 40) of the plane n . X = -distance."""
    return (-distance / (CAMERA.rays() @ np.array(normal))).astype(np.float32)


@pytest.mark.parametrize("radius_px", [1, 2, 4, 7, 13])
@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (-0.3, 0.5, -0.812)])
def test_a_plane_has_its_own_normal_everywhere(
    normal: tuple[float, float, float], radius_px: int
) -> None:
    depth = plane(normal, 3.0)
    found = estimate_normals(depth, CAMERA, radius_px=radius_px, max_ratio=0.5)
    expected = np.array(normal) / np.linalg.norm(normal)
    # Depth is stored as float32.
    assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-3)


@pytest.mark.parametrize(("radius_px", "step"), [(2, 1), (8, 2)])
def test_it_is_the_least_squares_plane_of_what_lies_on_the_same_surface(
    radius_px: int, step: int
) -> None:
    rng = np.random.default_rng(3)
    depth = plane((0.2, -0.3, -0.93), 3.0)
    depth *= rng.uniform(0.99, 1.01, depth.shape).astype(np.float32)
    depth[:, 25:] *= 1.5
    depth[4:7, 4:9] = 0
    found = estimate_normals(depth, CAMERA, radius_px=radius_px, max_ratio=0.1)
    for y, x in [(0, 0), (15, 20), (15, 24), (15, 25), (29, 39), (8, 10)]:
        rows, values = [], []
        for dy in range(-radius_px, radius_px + 1, step):
            for dx in range(-radius_px, radius_px + 1, step):
                j, i = y + dy, x + dx
                if 0 <= j < 30 and 0 <= i < 40 and abs(depth[j, i] / depth[y, x] - 1) <= 0.1:
                    rows.append((i + 0.5, j + 0.5, 1.0))
                    values.append(1 / float(depth[j, i]))
        fit = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
        normal = CAMERA.K.T @ fit
        assert_allclose(found[y, x], -normal / np.linalg.norm(normal), atol=1e-5)


def test_unknown_and_lonely_pixels_have_none() -> None:
    depth = np.zeros((30, 40), np.float32)
    depth[10, 10] = 2
    depth[20, 10:20] = 2  # a line carries no plane
    found = estimate_normals(depth, CAMERA, radius_px=2, max_ratio=0.1)
    assert not found.any()
