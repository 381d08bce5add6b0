"""Properties that hold for any mesh and any camera."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_renderer import ReferenceRenderer

from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer

cpu, reference = CpuRenderer(), ReferenceRenderer()
RENDERERS = {"cpu": cpu, "torch": TorchRenderer(torch.device("cpu"))}
each = pytest.mark.parametrize("renderer", RENDERERS.values(), ids=RENDERERS)
HEIGHT, WIDTH = 9, 11

coordinate = st.floats(-3, 3, width=32)
anything = st.one_of(coordinate, st.floats(width=32), st.sampled_from([0.0, np.nan, np.inf]))


@st.composite
def meshes(draw, numbers=coordinate):
    """Homogeneous pixels (2, V, 3) around a small picture, and triangles, repeats allowed."""
    vertices = draw(st.integers(3, 7))
    x, y, w = draw(arrays(np.float32, (3, 2, vertices), elements=numbers))
    q = np.stack([(x + 1) * WIDTH / 2, (y + 1) * HEIGHT / 2, w], axis=-1)
    index = st.integers(0, vertices - 1)
    triangles = draw(st.lists(st.tuples(index, index, index), max_size=6))
    return (
        torch.tensor(q, dtype=torch.float64),
        torch.tensor(triangles, dtype=torch.int32).reshape(-1, 3),
    )


@each
@settings(max_examples=60, deadline=None)
@given(mesh=meshes())
def test_ids_and_depth_equal_brute_force(renderer, mesh):
    got, expected = (one.visibility(*mesh, HEIGHT, WIDTH) for one in (renderer, reference))
    different = got.triangle_id != expected.triangle_id
    torch.testing.assert_close(got.depth, expected.depth, rtol=1e-9, atol=1e-12)
    assert torch.equal(got.coverage, expected.coverage)
    # Where surfaces meet or coincide, rounding may choose either, if it is there and as near.
    q, triangles = mesh
    for t in (got.triangle_id[different] - 1).unique():
        chosen = different & (got.triangle_id == t + 1)
        alone = reference.visibility(q, triangles[t : t + 1], HEIGHT, WIDTH)
        torch.testing.assert_close(
            alone.depth[chosen], expected.depth[chosen], rtol=1e-9, atol=1e-12
        )


@settings(max_examples=100, deadline=None)
@given(meshes(numbers=anything), st.booleans())
def test_no_input_makes_a_nan(mesh, fused):
    q, triangles = mesh
    q = q.clone().requires_grad_()
    uv = torch.linspace(0, 4, 2 * q.shape[1], dtype=torch.float64).reshape(-1, 2)
    texture = torch.rand(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = CpuRenderer(fused=fused).render(
        q, triangles, uv=uv, texture=texture, height=HEIGHT, width=WIDTH
    )
    (out.color.sum() + out.depth.sum()).backward()
    for tensor in (out.color, out.depth, q.grad):
        assert not torch.isnan(tensor).any()
    assert out.triangle_id.min() >= 0
    assert out.triangle_id.max() <= len(triangles)


@each
@settings(max_examples=40, deadline=None)
@given(mesh=meshes())
def test_scaling_the_scene_scales_depth_only(renderer, mesh):
    q, triangles = mesh
    seen = renderer.visibility(q, triangles, HEIGHT, WIDTH)
    scaled = renderer.visibility(q * 4, triangles, HEIGHT, WIDTH)
    assert torch.equal(seen.triangle_id, scaled.triangle_id)
    torch.testing.assert_close(scaled.depth, 4 * seen.depth)


@settings(max_examples=100, deadline=None)
@given(meshes(numbers=anything))
def test_tensor_operations_see_what_the_loops_see(mesh):
    q, triangles = mesh
    uv = torch.linspace(0, 4, 2 * q.shape[1], dtype=torch.float64).reshape(-1, 2)
    texture = torch.rand(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for numbers in (q, q.float()):
        seen = cpu.visibility(numbers, triangles, HEIGHT, WIDTH)
        found = RENDERERS["torch"].render(
            numbers, triangles, uv=uv, texture=texture, height=HEIGHT, width=WIDTH
        )
        assert torch.equal(found.triangle_id, seen.triangle_id)
        assert torch.equal(found.depth, seen.depth)
        assert torch.isfinite(found.color).all()
        assert torch.isfinite(found.place[:, found.coverage]).all()


@settings(max_examples=40, deadline=None)
@given(meshes(), st.integers(-4, 4), st.integers(-4, 4))
def test_shifting_the_window_shifts_the_picture(mesh, dx, dy):
    q, triangles = mesh
    seen = cpu.visibility(q, triangles, HEIGHT, WIDTH)
    shifted = cpu.visibility(shift(q, dx, dy), triangles, HEIGHT, WIDTH)
    # Pixel centres on an edge may fall either way after rounding.
    steady = torch.ones_like(seen.coverage)
    for side_x, side_y in itertools.product((-1e-6, 1e-6), repeat=2):
        nudged = cpu.visibility(shift(q, side_x, side_y), triangles, HEIGHT, WIDTH)
        steady &= nudged.coverage == seen.coverage
        steady &= torch.isclose(nudged.depth, seen.depth, rtol=1e-3, atol=0)
    rows = slice(max(0, dy), HEIGHT + min(0, dy))
    columns = slice(max(0, dx), WIDTH + min(0, dx))
    source = (slice(None), slice(max(0, -dy), HEIGHT - max(0, dy)))
    source += (slice(max(0, -dx), WIDTH - max(0, dx)),)
    same = steady[source]
    found, expected = shifted.depth[:, rows, columns][same], seen.depth[source][same]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def shift(q, dx, dy):
    """Homogeneous pixels moved over the picture."""
    moved = q.clone()
    moved[..., 0] += dx * q[..., 2]
    moved[..., 1] += dy * q[..., 2]
    return moved
