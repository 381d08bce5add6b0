"""The grid mesh as tensors: against arrays and the rendered picture, and on a device without
numbers, where nothing can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdepth.geometry import mesh as arrays
from refdepth.refine.mesh import surface, torch_mesh
from refdepth.refine.mesh.surface import surface_of
from refdepth.render.cpu import CpuRenderer

SHAPES = [(40, 56), (37, 53), (33, 49)]
CUT = 1.06


def depth_of(shape: tuple[int, int]) -> np.ndarray:
    """Slanted surfaces with steps between them and unknown pixels."""
    rng = np.random.default_rng(shape[1])
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = 2 + 0.005 * x + 0.008 * y + 0.5 * (x + 2 * y > 80) + 0.01 * rng.random(shape)
    depth[rng.random(shape) < 0.05] = 0
    depth[5:12, 7:22] = np.nan
    return depth.astype(np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_the_mesh_is_the_arrays_but_for_triangles_without_area(
    shape: tuple[int, int], stride: int
) -> None:
    depth = depth_of(shape)
    expected = arrays.grid_mesh(depth, stride, CUT)
    found = torch_mesh.grid_mesh(torch.from_numpy(depth), stride, CUT)
    assert found.shape == (expected.rows, expected.columns)
    assert found.triangles.dtype == torch.int32
    assert len(found.triangles) == 2 * (expected.rows - 1) * (expected.columns - 1)
    np.testing.assert_array_equal(found.vertices_px, expected.vertices_px)
    np.testing.assert_array_equal(found.depth, expected.depth)
    triangles = found.triangles.numpy()
    with_area = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
    np.testing.assert_array_equal(triangles[with_area], expected.triangles)
    assert (triangles[~with_area] == triangles[~with_area][:, :1]).all()
    meshed = np.isin(np.arange(len(expected.depth)), expected.triangles)
    np.testing.assert_array_equal(found.meshed, meshed)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 9)])
@pytest.mark.parametrize("stride", [1, 4])
def test_corrections_spread_as_those_of_arrays(shape: tuple[int, int], stride: int) -> None:
    depth = np.nan_to_num(depth_of(shape))
    mesh = arrays.grid_mesh(depth, stride, CUT)
    correction = np.random.default_rng(0).normal(0, 0.1, len(mesh.depth)).astype(np.float32)
    expected = surface.spread_to_pixels(mesh, correction, depth)
    on = torch.from_numpy(depth)
    tensors = torch_mesh.grid_mesh(on, stride, CUT)
    found = torch_mesh.spread_to_pixels(tensors, torch.from_numpy(correction), on)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [1, 4])
def test_points_lie_on_the_triangles_that_a_picture_shows(
    shape: tuple[int, int], stride: int
) -> None:
    depth = depth_of(shape)
    mesh = arrays.grid_mesh(depth, stride, CUT)
    xy = np.random.default_rng(1).random((500, 2)) * [shape[1], shape[0]]
    xy[:4] = [[0, 0], [shape[1], shape[0]], [0, shape[0] - 0.5], [shape[1] - 0.5, 0]]
    expected = surface.anchor_points(surface_of(mesh), xy, shape, CpuRenderer())
    on = torch_mesh.grid_mesh(torch.from_numpy(depth), stride, CUT)
    index, weight = (
        part.numpy() for part in torch_mesh.anchor_points(on, torch.from_numpy(xy), shape)
    )
    off = np.setdiff1d(np.arange(len(xy)), expected.row)
    assert 0.1 < len(off) / len(xy) < 0.7
    assert not weight[off].any()
    np.testing.assert_array_equal(index[expected.row], expected.index)
    np.testing.assert_allclose(weight[expected.row], expected.weight, atol=1e-6)


def test_anchored_points_are_where_they_were() -> None:
    mesh = torch_mesh.grid_mesh(torch.ones(21, 34), 4, CUT)
    xy = 0.5 + torch.rand((100, 2)) * torch.tensor([33.0, 20.0])
    index, weight = torch_mesh.anchor_points(mesh, xy, (21, 34))
    torch.testing.assert_close((weight[..., None] * mesh.vertices_px[index]).sum(dim=1), xy)


def test_a_mesh_of_one_row_anchors_nothing() -> None:
    mesh = torch_mesh.grid_mesh(torch.ones(1, 9), 4, CUT)
    _, weight = torch_mesh.anchor_points(mesh, torch.ones(5, 2), (1, 9))
    assert weight.shape == (5, 3)
    assert not weight.any()


def test_nothing_is_read_back() -> None:
    depth = torch.empty((37, 53), device="meta")
    mesh = torch_mesh.grid_mesh(depth, 4, CUT)
    assert torch_mesh.spread_to_pixels(mesh, mesh.depth, depth).shape == depth.shape
    xy = torch.empty((7, 2), device="meta")
    index, weight = torch_mesh.anchor_points(mesh, xy, (37, 53))
    assert index.shape == weight.shape == (7, 3)
