"""Gradients against central differences, in float64."""

import pytest
import torch
from reference_renderer import ReferenceRenderer

from refdepth.render.cpu import CpuRenderer

STEP = 1e-6


def _loss(renderer, views, inputs, weights):
    q, uv, texture = inputs
    out = renderer.render(
        q, views.triangles, uv=uv, texture=texture, height=views.height, width=views.width
    )
    # Smooth and non-linear, so that errors of colour and depth gradients cannot cancel.
    loss = (out.color * weights[0]).sum() + (out.depth * weights[1]).sum()
    return loss + out.color.square().sum(), out


def _check(renderer, views, *, wanted, seed, samples=40):
    """Compares `samples` random entries of each wanted gradient (0 q, 1 uv, 2 texture). Steps
    that change what a pixel sees or which texels it blends cross a kink and are left out."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(views.q), views.height, views.width)
    weights = [
        torch.randn(*shape, 3, generator=generator, dtype=torch.float64),
        torch.randn(*shape, generator=generator, dtype=torch.float64),
    ]
    inputs = [views.q.clone(), views.uv.clone(), views.texture.clone()]
    for index in wanted:
        inputs[index].requires_grad_()
    loss, out = _loss(renderer, views, inputs, weights)
    loss.backward()

    def texel(inputs):
        rast = renderer.rasterize(inputs[0].detach(), views.triangles, views.height, views.width)
        uv = renderer.interpolate(rast, inputs[1].detach(), views.triangles)
        return rast.triangle_id, torch.floor(uv - 0.5)

    checked = 0
    for index in wanted:
        gradient = inputs[index].grad
        scale = gradient.abs().max()
        entries = torch.randint(gradient.numel(), (samples,), generator=generator)
        for entry in entries.tolist():
            sides, seen = [], []
            for sign in (1, -1):
                moved = [tensor.detach().clone() for tensor in inputs]
                moved[index].view(-1)[entry] += sign * STEP
                sides.append(_loss(renderer, views, moved, weights)[0])
                seen.append(texel(moved))
            if any(not torch.equal(a, b) for a, b in zip(*seen, strict=True)):
                continue
            numeric = (sides[0] - sides[1]) / (2 * STEP)
            error = (numeric - gradient.view(-1)[entry]).abs()
            assert error < 1e-5 * max(gradient.view(-1)[entry].abs(), 1e-2 * scale)
            checked += 1
    assert checked > samples * len(wanted) // 4
    return out


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_to_vertices(make_views, seed, fused):
    views = make_views(seed, height=14, width=19, rows=5, columns=6, motion=0.3, relief=0.8)
    out = _check(CpuRenderer(fused=fused), views, wanted=[0], seed=seed)
    assert 0 < out.coverage.double().mean() < 1


def test_to_texture_coordinates_and_texture(make_views):
    views = make_views(5, height=14, width=19, rows=5, columns=6, views=2)
    _check(CpuRenderer(), views, wanted=[1, 2], seed=5)


def test_to_attributes_of_each_view(make_views):
    views = make_views(6, height=14, width=19, rows=5, columns=6, views=2)
    results = []
    for renderer in (CpuRenderer(), ReferenceRenderer()):
        q = views.q.clone().requires_grad_()
        attributes = torch.sin(views.q).repeat(1, 1, 2).requires_grad_()
        rast = renderer.rasterize(q, views.triangles, views.height, views.width)
        values = renderer.interpolate(rast, attributes, views.triangles)
        values.pow(3).sum().backward()
        results.append((q.grad, attributes.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_equal_automatic_differentiation_of_the_reference(make_views, seed):
    views = make_views(seed + 10, height=20, width=24, motion=0.3)
    gradients = []
    for renderer in (CpuRenderer(), ReferenceRenderer()):
        q = views.q.clone().requires_grad_()
        out = renderer.render(q, views.triangles, **views.arguments)
        (out.color.square().sum() + out.depth.square().sum()).backward()
        gradients.append(q.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)
