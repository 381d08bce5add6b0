"""What arrays and tensors share, on a device that bites, and that device itself."""

import numpy as np
import pytest
import torch
from biting_device import DEVICE, aside, biting

from refdepth.arrays import (
    at_least,
    at_most,
    at_pixels,
    fetch,
    fetch_all,
    fetch_numbers,
    median_of,
    put,
    put_like,
)

VALUES = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)


@pytest.fixture
def watch():
    with biting() as watch:
        yield watch


@pytest.fixture
def tensor(watch):
    tensor = put(VALUES, DEVICE)
    watch.clear()
    return tensor


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: np.exp(x),
        lambda x: np.multiply(np.ones(9), x),
        lambda x: bool((x > 0).any()),
        lambda x: x + torch.ones(9),
        lambda x: torch.ones(9).add_(x[0]),
        lambda x: torch.cat([x, torch.ones(1, 9)]),
        lambda x: torch.stack([x[0, 0], torch.tensor(1.0)]),
        lambda x: x.data_ptr(),
    ],
)
def test_the_device_bites(tensor, act):
    with pytest.raises((TypeError, RuntimeError), match=r"biting device|same device"):
        act(tensor)


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x[0, 0].item(),
        lambda x: float(x[0, 0]),
        lambda x: x[0].tolist(),
        lambda x: x.cpu(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: x.nanmedian(),
        lambda x: x[0].repeat_interleave(torch.ones_like(x[0]).long()),
        lambda x: torch.tensor(1.0, device=x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: torch.ones(3).to(x.device),
    ],
)
def test_the_device_counts_waits(tensor, watch, act):
    act(tensor)
    assert watch.waits.total() == 1, watch.text()
    with aside():
        act(tensor)
    assert watch.waits.total() == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: 2.0 * x + np.float64(1),
        lambda x: x.nanmedian(dim=0),
        lambda x: x.clone().masked_fill_(x > 0, 1.0),
        lambda x: x[0].repeat_interleave(torch.ones_like(x[0]).long(), output_size=9),
        lambda x: torch.zeros(3, device=x.device),
        lambda x: torch.ones(3).to(x.device, non_blocking=True),
    ],
)
def test_the_device_lets_pass_what_a_gpu_does(tensor, watch, act):
    act(tensor)
    assert not watch.waits


def test_gradients_flow_and_writing_through_views_counts(tensor):
    leaf = tensor.clone().requires_grad_()
    (leaf[1:, ::2].exp() * 2).sum().backward()
    expected = np.zeros_like(VALUES)
    expected[1:, ::2] = 2 * np.exp(VALUES[1:, ::2])
    assert leaf.grad.device == DEVICE
    np.testing.assert_allclose(fetch(leaf.grad), expected, rtol=1e-6)
    tensor[2:4].T[3].mul_(0)
    assert not fetch(tensor)[2:4, 3].any()


def test_what_is_put_comes_back_with_one_wait_for_all(watch):
    one, other = put(VALUES, DEVICE), put(VALUES[:2].astype(np.float64), DEVICE)
    assert not watch.waits
    got = fetch_all(one, other)
    assert watch.waits.total() == 1
    assert np.array_equal(got[0], VALUES)
    assert np.array_equal(got[1], VALUES[:2])
    assert fetch_numbers([1.5, one[0, 0], 2, one[3, 3]]) == [1.5, VALUES[0, 0], 2, VALUES[3, 3]]
    assert watch.waits.total() == 2


def test_numbers_bound_arrays_and_tensors_alike(tensor, watch):
    for bound in (at_least, at_most):
        expected = bound(VALUES, 0.25)
        assert expected.dtype == np.float32
        found = bound(tensor, 0.25)
        assert not watch.waits
        with aside():
            assert np.array_equal(fetch(found), expected)
    assert at_least(VALUES, 0.25).min() == np.float32(0.25) == at_most(VALUES, 0.25).max()


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 63])
def test_a_median_is_the_lower_of_the_middle_two_and_does_not_wait(tensor, watch, count):
    known = np.zeros(VALUES.size, bool)
    known[np.random.default_rng(1).permutation(VALUES.size)[:count]] = True
    known = known.reshape(VALUES.shape)
    found = median_of(tensor, put_like(known, tensor))
    assert not watch.waits
    expected = sorted(VALUES[known])[(count - 1) // 2] if count else 1
    with aside():
        assert float(found) == expected
    if count % 2 or not count:
        assert median_of(VALUES, known) == expected


def test_points_are_drawn_alike_the_last_of_several(tensor, watch):
    rng = np.random.default_rng(2)
    where = rng.integers(0, 4, 30), rng.integers(0, 5, 30)
    values, kept = rng.normal(size=30).astype(np.float32), rng.random(30) < 0.7
    expected = at_pixels((4, 5), where, values, kept)
    found = at_pixels((4, 5), where, put_like(values, tensor), put_like(kept, tensor))
    assert not watch.waits
    with aside():
        assert np.array_equal(fetch(found), expected)
