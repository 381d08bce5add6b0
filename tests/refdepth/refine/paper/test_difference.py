import pytest
import torch

from refdepth.refine.paper.difference import mean_difference


def pictures(dtype=torch.float32, shape=(2, 7, 9, 3)):
    random = torch.Generator().manual_seed(0)
    rendered, target = (torch.rand(shape, generator=random, dtype=dtype) for _ in range(2))
    return rendered.requires_grad_(), target, torch.rand(shape[:3], generator=random, dtype=dtype)


def by_hand(rendered, target, weight, *, squared=False, limit=float("inf")):
    total = share = 0.0
    for pixel in range(weight.numel()):
        difference = (rendered - target).reshape(weight.numel(), -1)[pixel]
        difference = difference.square() if squared else difference.abs()
        total = total + weight.flatten()[pixel] * difference.mean().clamp(max=limit)
        share = share + weight.flatten()[pixel]
    return total / share


@pytest.mark.parametrize("options", [{}, {"squared": True}, {"limit": 0.3}])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_value_and_gradient_are_those_of_the_formula(options, channels):
    rendered, target, weight = pictures(torch.float64, (2, 5, 6, channels))
    expected = by_hand(rendered, target, weight, **options)
    (expected_grad,) = torch.autograd.grad(7 * expected, rendered)
    found = mean_difference(rendered, target, weight, **options)
    (grad,) = torch.autograd.grad(7 * found, rendered)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-15)


def test_compiled_and_tensor_ways_agree():
    rendered, target, weight = pictures()
    # A gradient to the weight is only known to the tensor way.
    for options in ({}, {"squared": True}, {"limit": 0.3}):
        values, grads = [], []
        for learnt in (False, True):
            value = mean_difference(rendered, target, weight.requires_grad_(learnt), **options)
            values.append(value.detach())
            grads.append(torch.autograd.grad(value, rendered)[0])
        torch.testing.assert_close(values[0], values[1])
        torch.testing.assert_close(grads[0], grads[1])


def test_a_mask_counts_as_weight_and_none_as_no_difference():
    rendered, target, weight = pictures()
    covered = weight > 0.5
    expected = (rendered - target).abs().mean(dim=-1)[covered].mean()
    torch.testing.assert_close(mean_difference(rendered, target, covered), expected)
    nothing = mean_difference(rendered, target, torch.zeros_like(covered))
    assert nothing == 0
    assert not torch.autograd.grad(nothing, rendered)[0].any()


def test_any_layout_is_taken():
    rendered, target, weight = pictures()
    turned = mean_difference(
        rendered.transpose(1, 2), target.transpose(1, 2), weight.transpose(1, 2), squared=True
    )
    torch.testing.assert_close(turned, mean_difference(rendered, target, weight, squared=True))
