"""Small meshes with perspective, seen by several cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer

EXACT = {
    "cpu": CpuRenderer(),
    "modular": CpuRenderer(fused=False),
    "torch": TorchRenderer(torch.device("cpu")),
}
"""The renderers that see, pixel for pixel, what the reference sees."""


@dataclass(frozen=True)
class Views:
    q: torch.Tensor
    triangles: torch.Tensor
    uv: torch.Tensor
    texture: torch.Tensor
    height: int
    width: int

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "uv": self.uv,
            "texture": self.texture,
            "height": self.height,
            "width": self.width,
        }


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix from three angles (radians) about x, y, z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def bumpy_views(
    seed: int = 0,
    *,
    views: int = 3,
    height: int = 30,
    width: int = 41,
    columns: int = 8,
    rows: int = 6,
    depth: float = 3.0,
    relief: float = 0.5,
    motion: float = 0.15,
    dtype: torch.dtype = torch.float64,
) -> Views:
    """A sheet of random relief, larger than the picture, seen from cameras around the first."""
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.linspace(-0.75, 0.75, columns), np.linspace(-0.6, 0.6, rows))
    z = depth + relief * rng.uniform(-1, 1, u.shape)
    points = np.stack([u * z, v * z, z], axis=-1).reshape(-1, 3)
    K = np.array([[0.9 * width, 0, 0.5 * width], [0, 0.95 * width, 0.5 * height], [0, 0, 1]])
    q = []
    for _ in range(views):
        R = rotation(rng.uniform(-motion, motion, 3))
        q.append((points @ R.T + motion * depth * rng.uniform(-1, 1, 3)) @ K.T)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
    )
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([c, b, d], 1)])
    texture = rng.uniform(0, 1, (19, 23, 3))
    uv = np.stack([(u + 0.75) / 1.5 * 23, (v + 0.6) / 1.2 * 19], axis=-1).reshape(-1, 2)
    return Views(
        q=torch.tensor(np.stack(q), dtype=dtype),
        triangles=torch.tensor(triangles.astype(np.int32)),
        uv=torch.tensor(uv, dtype=dtype),
        texture=torch.tensor(texture, dtype=dtype),
        height=height,
        width=width,
    )


@pytest.fixture(params=EXACT)
def renderer(request):
    return EXACT[request.param]


@pytest.fixture
def make_views():
    return bumpy_views
