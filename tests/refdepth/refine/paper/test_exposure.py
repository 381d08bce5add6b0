from __future__ import annotations

import pytest
import torch

from refdepth.refine.paper.exposure import Exposure
from refdepth.refine.paper.settings import ExposureModel

CPU = torch.device("cpu")


def colors(views: int = 2) -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(views, 4, 5, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", list(ExposureModel))
def test_starts_as_the_identity(model: ExposureModel) -> None:
    color = colors()
    found = Exposure(model, 3, 3, CPU).apply(color, torch.tensor([0, 2]))
    torch.testing.assert_close(found, color)


def test_gain_and_bias_belong_to_the_selected_source() -> None:
    exposure = Exposure(ExposureModel.GAIN_BIAS, 3, 3, CPU)
    with torch.no_grad():
        exposure.parameters["gain"][2] = torch.log(torch.tensor(2.0))
        exposure.parameters["bias"][2, 1] = 0.1
    color = torch.full((2, 1, 1, 3), 0.2)
    found = exposure.apply(color, torch.tensor([0, 2]))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.2, 0.2, 0.2]))
    torch.testing.assert_close(found[1, 0, 0], torch.tensor([0.4, 0.5, 0.4]))


def test_one_stop_doubles_light_before_the_response() -> None:
    exposure = Exposure(ExposureModel.RESPONSE, 1, 3, CPU)
    with torch.no_grad():
        exposure.parameters["stops"][0] = 1
        exposure.parameters["log_exponent"][0, 2] = torch.log(torch.tensor(0.5))
    found = exposure.apply(torch.full((1, 1, 1, 3), 0.125), torch.tensor([0]))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.25, 0.25, 0.5]))


@pytest.mark.parametrize("model", [ExposureModel.GAIN_BIAS, ExposureModel.RESPONSE])
def test_gradients_equal_central_differences(model: ExposureModel) -> None:
    exposure = Exposure(model, 2, 3, CPU)
    selected = torch.tensor([1, 0])
    color = colors().double()
    names = list(exposure.parameters)
    start = [
        0.2 * torch.rand(exposure.parameters[name].shape, dtype=torch.float64) for name in names
    ]

    def apply(*values: torch.Tensor) -> torch.Tensor:
        exposure.parameters = dict(zip(names, values, strict=True))
        return exposure.apply(color, selected)

    inputs = tuple(value.requires_grad_() for value in start)
    assert torch.autograd.gradcheck(apply, inputs, eps=1e-6, atol=1e-7)


def test_black_pixels_have_finite_gradients() -> None:
    exposure = Exposure(ExposureModel.RESPONSE, 1, 3, CPU)
    exposure.apply(torch.zeros(1, 2, 2, 3), torch.tensor([0])).sum().backward()
    for value in exposure.parameters.values():
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()


def test_fitting_finds_a_known_exposure() -> None:
    color = colors(1)
    target = (color * 2**0.5).clamp_max(4) ** 0.9
    exposure = Exposure(ExposureModel.RESPONSE, 1, 3, CPU)
    optimizer = torch.optim.LBFGS(list(exposure.parameters.values()), max_iter=60)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (exposure.apply(color, torch.tensor([0])) - target).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert exposure.parameters["stops"].item() == pytest.approx(0.5, abs=1e-2)
    exponent = exposure.parameters["log_exponent"].exp()
    torch.testing.assert_close(exponent, torch.full_like(exponent, 0.9), atol=1e-2, rtol=0)


@pytest.mark.parametrize("model", [ExposureModel.GAIN_BIAS, ExposureModel.RESPONSE])
def test_starts_at_the_ratio_of_mean_brightness(model: ExposureModel) -> None:
    color = colors(2)
    target = color.clone()
    target[1] /= 2
    weight = torch.ones(2, 4, 5)
    target[0, 0, 0], weight[0, 0, 0] = 100, 0
    exposure = Exposure(model, 2, 3, CPU)
    exposure.start_from(color, target, weight)
    found = exposure.apply(color, torch.tensor([0, 1]))
    target[0, 0, 0] = color[0, 0, 0]
    torch.testing.assert_close(found, target)
