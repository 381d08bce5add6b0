"""Each term against values worked out by hand, and its gradient against central differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from refdepth.refine.paper import losses


def assert_gradient(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(function, (x,), eps=1e-6, atol=1e-7, rtol=1e-5)


def picture(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_color_mse_averages_over_visible_pixels_only() -> None:
    rendered = torch.tensor([[[[0.5, 0.1], [0.9, 0.9]]]])
    target = torch.tensor([[[[0.3, 0.1], [0.0, 0.0]]]])
    weight = torch.tensor([[[1.0, 0.0]]])
    assert losses.color_mse(rendered, target, weight).item() == pytest.approx(0.02)
    assert losses.color_mse(rendered, target, 0 * weight).item() == 0


def test_robust_l1_stops_growing_at_its_limit() -> None:
    rendered = torch.tensor([[[[0.1], [0.8]]]])
    weight = torch.ones(1, 1, 2)
    zero = torch.zeros_like(rendered)
    assert losses.robust_l1(rendered, zero, weight, limit=0.3).item() == pytest.approx(0.2)


def test_image_gradient_ignores_brightness_and_pairs_with_a_hidden_pixel() -> None:
    target = picture(0, 2, 5, 6, 3)
    weight = torch.ones(2, 5, 6, dtype=torch.float64)
    assert losses.image_gradient_l1(target + 0.2, target, weight).item() == pytest.approx(0)
    spoiled = target.clone()
    spoiled[0, 2, 3] += 5
    weight[0, 2, 3] = 0
    assert losses.image_gradient_l1(spoiled, target, weight).item() == pytest.approx(0)


def test_image_gradient_is_the_mean_step_in_each_direction() -> None:
    rendered = torch.tensor([[0.0, 0.1], [0.4, 0.4]])[None, :, :, None]
    # Across: 0.1 and 0.0, mean 0.05. Down: 0.4 and 0.3, mean 0.35.
    value = losses.image_gradient_l1(rendered, torch.zeros_like(rendered), torch.ones(1, 2, 2))
    assert value.item() == pytest.approx(0.4)


def test_edge_band_marks_steps_and_outlines_to_the_asked_radius() -> None:
    depth = torch.ones(1, 1, 12)
    depth[..., 6:] = 1.2
    expected = [x in (5, 6) for x in range(12)]
    assert losses.edge_band(depth, ratio=1.1, radius=1)[0, 0].tolist() == expected
    expected = [x in (4, 5, 6, 7) for x in range(12)]
    assert losses.edge_band(depth, ratio=1.1, radius=2)[0, 0].tolist() == expected
    assert not losses.edge_band(depth, ratio=1.3, radius=1).any()
    depth[..., 0] = 0
    assert losses.edge_band(depth, ratio=1.3, radius=1)[0, 0].tolist()[:3] == [True, True, False]


def test_shape_loss_is_blind_to_an_offset_and_sees_a_tilt() -> None:
    prior = torch.full((8, 8), 2.0)
    valid = torch.ones(8, 8, dtype=torch.bool)
    assert losses.shape_loss(prior + 0.5, prior, valid).item() == pytest.approx(0, abs=1e-12)
    tilted = prior + 0.02 * torch.arange(8)
    # Everywhere 0.02 per step at depth 2: (0.01)^2; the box at the border keeps the mean.
    assert losses.shape_loss(tilted, prior, valid).item() == pytest.approx(1e-4, rel=1e-4)


def test_shape_loss_does_not_depend_on_the_size_when_gradients_are_per_share_of_the_picture() -> (
    None
):
    found = []
    for size in (64, 256):
        y, x = torch.meshgrid(*[torch.arange(size) / size] * 2, indexing="ij")
        prior = 3 + 0.2 * x
        depth = prior + 0.1 * torch.sin(3 * x) * y
        valid = torch.ones(size, size, dtype=torch.bool)
        found.append(losses.shape_loss(depth, prior, valid, steps=size / 100).item())
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_shape_loss_frees_the_priors_depth_edges() -> None:
    prior = torch.full((8, 8), 2.0)
    prior[:, 4:] = 4.0
    valid = torch.ones(8, 8, dtype=torch.bool)
    on_edge, beside = prior.clone(), prior.clone()
    on_edge[:, 4:] += 0.2
    beside[:, 2:] += 0.2
    at_edge = losses.shape_loss(on_edge, prior, valid)
    assert at_edge < 0.7 * losses.shape_loss(beside, prior, valid)


def test_shape_loss_leaves_out_cells_with_an_unknown_corner() -> None:
    prior = torch.full((6, 6), 2.0)
    depth = prior.clone()
    depth[3, 3] = 100.0
    valid = torch.ones(6, 6, dtype=torch.bool)
    valid[3, 3] = False
    assert losses.shape_loss(depth, prior, valid).item() == 0


def test_edge_map_loss_compares_the_strength_of_depth_edges() -> None:
    prior = torch.full((3, 3), 1.0)
    depth = prior.clone()
    depth[:, 1:] = 1.1
    valid = torch.ones(3, 3, dtype=torch.bool)
    # Two of four cells hold a step of a tenth of the depth: 1 - exp(-10 * 0.1) each.
    expected = (1 - math.exp(-1)) / 2
    assert losses.edge_map_loss(depth, prior, valid).item() == pytest.approx(expected, rel=1e-4)
    assert losses.edge_map_loss(depth, depth, valid).item() == 0


def test_point_loss_is_huber_on_the_relative_error() -> None:
    depth = torch.tensor([1.1, 4.0])
    measured = torch.tensor([1.0, 2.0])
    # 0.1^2 / 2 and 0.5 * (1 - 0.25), averaged.
    value = losses.point_loss(depth, measured, huber=0.5).item()
    assert value == pytest.approx((0.005 + 0.375) / 2)
    assert losses.point_loss(depth[:0], measured[:0], huber=0.5).item() == 0


def test_shift_loss_counts_vertices_near_an_edge_and_falls_as_they_reach_it() -> None:
    distance = (torch.arange(20.0) + 0.5 - 10.5).abs().expand(6, 20)
    positions = torch.tensor([[9.5, 3.5], [2.5, 3.5]])
    still = torch.zeros(2, 2)
    assert losses.shift_loss(positions, still, distance, 2.0).item() == pytest.approx(0.5)
    onto = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert losses.shift_loss(positions, onto, distance, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_normal_loss_is_one_minus_cosine_where_normals_are_given() -> None:
    x, y = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy")
    valid = torch.ones(4, 4, dtype=torch.bool)
    # z = 1 + x falls away from the camera to the right: its normal is (1, 0, -1) / sqrt(2).
    slope = torch.stack([x, y, 1 + x], dim=-1)
    facing = torch.zeros(4, 4, 3)
    facing[..., 2] = -1
    expected = 1 - math.sqrt(0.5)
    assert losses.normal_loss(slope, facing, valid).item() == pytest.approx(expected, abs=1e-6)
    facing[0, 0] = 0
    assert losses.normal_loss(slope, facing, valid).item() == pytest.approx(expected, abs=1e-6)
    assert losses.normal_loss(slope, 0 * facing, valid).item() == 0


def test_smoothness_weighs_each_edge() -> None:
    correction = torch.tensor([0.0, 0.1, 0.4])
    edges = torch.tensor([[0, 1], [1, 2]])
    value = losses.smoothness_loss(correction, edges, torch.tensor([1.0, 0.5])).item()
    assert value == pytest.approx((0.01 + 0.045) / 2)


def test_gradients_equal_central_differences() -> None:
    target = picture(1, 2, 4, 5, 3)
    weight = (picture(2, 2, 4, 5) > 0.3).double()
    rendered = picture(3, 2, 4, 5, 3)
    assert_gradient(lambda x: losses.color_mse(x, target, weight), rendered)
    assert_gradient(lambda x: losses.robust_l1(x, target, weight, limit=0.3), rendered)
    assert_gradient(lambda x: losses.image_gradient_l1(x, target, weight), rendered)

    prior = 2 + 0.3 * picture(4, 6, 7)
    depth = 2 + 0.3 * picture(5, 6, 7)
    valid = picture(6, 6, 7) > 0.1
    assert_gradient(lambda x: losses.shape_loss(x, prior, valid), depth)
    assert_gradient(lambda x: losses.edge_map_loss(x, prior, valid), depth)
    assert_gradient(lambda x: losses.point_loss(x[0], prior[0], huber=0.05), depth)

    x, y = torch.meshgrid(torch.arange(7.0), torch.arange(6.0), indexing="xy")
    rays = torch.stack([x / 7, y / 7, torch.ones_like(x)], dim=-1).double()
    normals = picture(7, 6, 7, 3) - 0.5
    assert_gradient(lambda z: losses.normal_loss(z[..., None] * rays, normals, valid), depth)

    edges = torch.tensor([[0, 1], [1, 2], [0, 3]])
    edge_weight = picture(8, 3)
    assert_gradient(lambda f: losses.smoothness_loss(f, edges, edge_weight), picture(9, 4))

    distance = picture(10, 9, 9)
    positions = 2 + 5 * picture(11, 6, 2)
    shift = 0.3 * picture(12, 6, 2)
    assert_gradient(lambda s: losses.shift_loss(positions, s, distance, 0.6), shift)


def test_flat_ground_has_a_finite_gradient() -> None:
    depth = torch.full((4, 4), 2.0, requires_grad=True)
    valid = torch.ones(4, 4, dtype=torch.bool)
    prior = torch.full((4, 4), 2.0)
    (losses.shape_loss(depth, prior, valid) + losses.edge_map_loss(depth, prior, valid)).backward()
    assert depth.grad is not None
    assert torch.isfinite(depth.grad).all()
