"""What rendered pixels say about the vertices: against interpolation by scipy, and the two ways of
computing it against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from refdepth.geometry.mesh import GridMesh, grid_mesh
from refdepth.refine.mesh import torch_photometric
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.photometric import Photometry, _lower_median
from refdepth.refine.mesh.photometric_kernels import OUTLIER
from refdepth.render.interface import RenderOutput

SCALE = 2
HEIGHT, WIDTH = 37, 50  # with a stride of 4 the last cells are narrower
STRIDE = 4
CPU = torch.device("cpu")


def output(color: torch.Tensor, place: torch.Tensor) -> RenderOutput:
    nothing = torch.zeros(color.shape[:3])
    return RenderOutput(color=color, place=place, triangle_id=nothing.int(), depth=nothing)


def level(images: torch.Tensor, weight: torch.Tensor) -> Level:
    views = len(images)
    return Level(
        scale=SCALE,
        texture=torch.zeros((HEIGHT // SCALE, WIDTH // SCALE, images.shape[3] + 1)),
        images=images,
        weight=weight,
        A=torch.zeros((views, 3, 3)),
        b=torch.zeros((views, 3)),
    )


@pytest.fixture
def case():
    """Two views of random pictures that show random places, some of them of nothing."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    shape = (2, 15, 20)
    place = torch.stack([random(*shape) * WIDTH / SCALE, random(*shape) * HEIGHT / SCALE]) - 1
    pictures = []
    for sign in (-1, 1):
        color = torch.cat([random(*shape, 2), (random(*shape, 1) > 0.1).float()], dim=-1)
        pictures.append(output(color, place + sign * 0.2))
    given = random(*shape) * (random(*shape) > 0.2)
    return *pictures, level(random(*shape, 2), given), torch.tensor([0.01, 0.02])


def tensor_sums(mesh: GridMesh, case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    xy = torch.from_numpy(mesh.vertices_px).reshape(mesh.rows, mesh.columns, 2)
    meshed = torch.from_numpy(Photometry(mesh, CPU).meshed)
    return torch_photometric.sums(*case, xy[0, :, 0], xy[:, 0, 1], meshed)


@pytest.fixture
def mesh():
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[8:20, 12:30] = 0  # vertices without triangles
    return grid_mesh(depth, STRIDE, 1.06)


def test_loops_and_tensor_operations_agree(case, mesh) -> None:
    one = Photometry(mesh, CPU).sums(*case)
    other = tensor_sums(mesh, case)
    assert all(isinstance(part, torch.Tensor) for part in other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-4 * np.abs(a).max())
    assert np.abs(one[0]).max() > 0


def test_gathering_is_the_adjoint_of_interpolation(case) -> None:
    near, far, at, probe = case
    full = grid_mesh(np.ones((HEIGHT, WIDTH), np.float32), STRIDE, 1.06)
    curvature, gradient, cost = Photometry(full, CPU).sums(near, far, at, probe)
    field = np.random.default_rng(0).random((full.rows, full.columns))

    slope = (far.color - near.color)[..., :2].double() / (2 * probe[:, None, None, None])
    residual = (far.color + near.color)[..., :2].double() / 2 - at.images
    visible = (near.color[..., 2] > 0.5) & (far.color[..., 2] > 0.5)
    weight = at.weight.double() * visible
    energy = residual.square().sum(-1)
    scale = OUTLIER * energy[weight > 0][::8].median()
    robust = weight / ((1 + energy / scale) ** 2 * scale)
    photo = (near.place + 0.2 + 0.5).double().numpy() * SCALE
    xy = full.vertices_px.reshape(full.rows, full.columns, 2)
    columns = np.interp(photo[0], xy[0, :, 0], np.arange(full.columns))
    rows = np.interp(photo[1], xy[:, 0, 1], np.arange(full.rows))
    shown = map_coordinates(field, [rows, columns], order=1)

    expected = float((robust * slope.square().sum(-1) * torch.from_numpy(shown)).sum())
    assert (curvature * field.ravel()).sum() == pytest.approx(expected, rel=1e-4)
    lean = robust * (slope * residual).sum(-1)
    assert (gradient * field.ravel()).sum() == pytest.approx(
        float((lean * torch.from_numpy(shown)).sum()), rel=1e-4
    )
    each = (weight * energy / (1 + energy / scale)).sum() / weight.sum()
    assert cost == pytest.approx(float(each), rel=1e-5)


def test_vertices_without_triangles_hear_nothing(case, mesh) -> None:
    photometry = Photometry(mesh, CPU)
    curvature, _, _ = photometry.sums(*case)
    assert not photometry.meshed.all()
    assert (curvature[~photometry.meshed] == 0).all()
    assert (curvature[photometry.meshed] > 0).mean() > 0.5


def test_two_surfaces_in_one_pixel_are_no_slope(case, mesh) -> None:
    near, far, at, probe = case
    jumped = output(far.color, far.place + torch.tensor([5.0, 0.0])[:, None, None, None])
    curvature, gradient, cost = Photometry(mesh, CPU).sums(near, jumped, at, probe)
    assert (np.abs(curvature).max(), np.abs(gradient).max(), cost) == (0, 0, 0)


def test_nothing_to_see_is_no_error(case, mesh) -> None:
    near, far, at, probe = case
    dark = level(at.images, torch.zeros_like(at.weight))
    nothing = near, far, dark, probe
    for found in (Photometry(mesh, CPU).sums(*nothing), tensor_sums(mesh, nothing)):
        curvature, gradient, cost = map(np.asarray, found)
        assert (np.abs(curvature).max(), np.abs(gradient).max(), cost) == (0, 0, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10])
def test_the_median_is_the_one_that_torch_takes(count: int) -> None:
    values = np.random.default_rng(count).random(count, dtype=np.float32)
    assert _lower_median(values) == torch.from_numpy(values).median().item()


@pytest.mark.parametrize("known", [0, 1, 8, 9, 100, 119])
def test_the_median_of_tensors_is_that_of_the_same_sample(known: int) -> None:
    rng = np.random.default_rng(known)
    energy = rng.random((2, 5, 12), dtype=np.float32)
    weight = np.zeros(energy.size, np.float32)
    weight[rng.permutation(energy.size)[:known]] = 0.5
    weight = weight.reshape(energy.shape)
    found = torch_photometric._sampled_median(torch.from_numpy(energy), torch.from_numpy(weight))
    sample = energy[weight > 0][::8]
    assert found.item() == (_lower_median(sample) if known else np.inf)


def test_sums_of_tensors_are_the_same_in_every_order() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((2, 3, 40, 50), generator=generator).exp()
    place = 20 * torch.rand((2, 3, 40, 50), generator=generator)
    x, y = 4.0 * torch.arange(6) + 0.5, 4.0 * torch.arange(5) + 0.5
    meshed = torch.rand(30, generator=generator) > 0.2
    one = torch_photometric._gather(values, place, 1, x, y, meshed)
    turned = [part.flip(1, 2, 3) for part in (values, place)]
    assert torch.equal(one, torch_photometric._gather(*turned, 1, x, y, meshed))
    assert (one[:, meshed] > 0).all()
    # All that has a place goes somewhere: cells without a meshed corner are none here.
    np.testing.assert_allclose(one.sum(dim=1), values.double().sum(dim=(1, 2, 3)), rtol=1e-9)


def test_nothing_is_read_back(case, mesh) -> None:
    near, far, at, probe = case
    nowhere = torch.device("meta")
    near, far = (output(one.color.to(nowhere), one.place.to(nowhere)) for one in (near, far))
    there = level(at.images.to(nowhere), at.weight.to(nowhere))
    found = Photometry(mesh, nowhere).sums(near, far, there, probe.to(nowhere))
    assert [part.shape for part in found] == [mesh.depth.shape, mesh.depth.shape, ()]
