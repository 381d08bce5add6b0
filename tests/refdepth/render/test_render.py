import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from reference_renderer import ReferenceRenderer

from refdepth.geometry.mesh import grid_mesh
from refdepth.render.cpu import CpuRenderer

cpu, modular, reference = CpuRenderer(), CpuRenderer(fused=False), ReferenceRenderer()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_agrees_with_brute_force(renderer, make_views, seed, dtype):
    views = make_views(seed, relief=0.9, motion=0.3, dtype=dtype)
    got = renderer.render(views.q, views.triangles, **views.arguments)
    expected = reference.render(views.q, views.triangles, **views.arguments)
    assert 0.2 < got.coverage.double().mean() < 1
    assert torch.equal(got.triangle_id, expected.triangle_id)
    tolerance = 1e-12 if dtype == torch.float64 else 5e-5
    torch.testing.assert_close(got.depth, expected.depth, rtol=tolerance / 10, atol=0)
    torch.testing.assert_close(got.color, expected.color, rtol=0, atol=tolerance)
    seen = expected.coverage
    place = got.place[:, seen], expected.place[:, seen]
    torch.testing.assert_close(*place, rtol=0, atol=50 * tolerance)


def test_visibility_is_that_of_render(renderer, make_views):
    views = make_views()
    rendered = renderer.render(views.q, views.triangles, **views.arguments)
    seen = renderer.visibility(views.q, views.triangles, views.height, views.width)
    assert torch.equal(seen.triangle_id, rendered.triangle_id)
    assert torch.equal(seen.depth, rendered.depth)
    assert torch.equal(seen.coverage, rendered.triangle_id > 0)


def test_pixel_centres_and_axes_are_ours(renderer):
    """A picture pasted on a plane and seen by its own camera comes back unchanged, also far from
    the pixel grid's centre and with no flip; depth is z."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(2, 3, (12, 17)).astype(np.float32)
    mesh = grid_mesh(depth, stride=1, cut_ratio=2.0)
    uv = torch.from_numpy(mesh.vertices_px)
    w = torch.from_numpy(mesh.depth)[:, None]
    q = torch.cat([uv * w, w], dim=1)[None]
    texture = torch.from_numpy(rng.uniform(0, 1, (12, 17, 3)).astype(np.float32))
    out = renderer.render(
        q, torch.from_numpy(mesh.triangles), uv=uv, texture=texture, height=12, width=17
    )
    assert out.coverage[0, 1:-1, 1:-1].all()
    seen = out.coverage[0]
    torch.testing.assert_close(out.color[0][seen], texture[seen], atol=2e-5, rtol=0)
    torch.testing.assert_close(out.depth[0][seen], torch.from_numpy(depth)[seen])
    texels = torch.stack(torch.meshgrid(torch.arange(17.0), torch.arange(12.0), indexing="xy"))
    torch.testing.assert_close(out.place[:, 0][:, seen], texels[:, seen], atol=1e-4, rtol=0)


def test_depth_is_perspective_correct_by_hand(renderer):
    """Plane z = 1 + x in front of a camera with K = I scaled: depth along a ray has a closed
    form."""
    # z = 1 + X and x = 10 X / z + 5 give z = 10 / (15 - x).
    points = np.array([[-0.5, -1], [-0.5, 1], [2, -3], [2, 3]])
    xyz = np.stack([points[:, 0], points[:, 1], 1 + points[:, 0]], axis=1)
    q = np.stack([10 * xyz[:, 0] + 5 * xyz[:, 2], 10 * xyz[:, 1] + 5 * xyz[:, 2], xyz[:, 2]], 1)
    seen = renderer.visibility(
        torch.tensor(q[None]), torch.tensor([[0, 1, 2], [1, 2, 3]], dtype=torch.int32), 10, 10
    )
    x = np.arange(10) + 0.5
    expected = np.broadcast_to(10 / (15 - x), (10, 10))
    covered = seen.coverage[0].numpy()
    assert covered.mean() > 0.8
    np.testing.assert_allclose(seen.depth[0].numpy()[covered], expected[covered], rtol=1e-12)


def test_nearer_triangle_hides_the_farther_whatever_the_order(renderer):
    corners = np.array([[0.0, 0.0], [20, 0], [0, 20]])
    q = np.concatenate([np.c_[corners * w, np.full(3, w)] for w in (2.0, 1.0)])
    q = torch.tensor(q[None])
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        seen = renderer.visibility(q, torch.tensor(order, dtype=torch.int32), 4, 4)
        torch.testing.assert_close(seen.depth, torch.ones_like(seen.depth))
        assert (seen.triangle_id == order.index([3, 4, 5]) + 1).all()


def test_equal_depth_goes_to_the_first_listed(renderer):
    q = torch.tensor([[[0.0, 0, 1], [20, 0, 1], [0, 20, 1]]])
    seen = renderer.visibility(q, torch.tensor([[0, 1, 2], [1, 2, 0]], dtype=torch.int32), 4, 4)
    assert (seen.triangle_id == 1).all()


@pytest.mark.parametrize(("seed", "channels"), [(0, 3), (1, 3), (2, 5)])
def test_fused_and_modular_agree(make_views, seed, channels):
    views = make_views(seed)
    texture = torch.rand(9, 14, channels, dtype=torch.float64, generator=torch.manual_seed(seed))
    arguments = {**views.arguments, "texture": texture}
    results = []
    for renderer in (cpu, modular):
        q = views.q.clone().requires_grad_()
        out = renderer.render(q, views.triangles, **arguments)
        weights = torch.linspace(-1, 1, out.color.numel(), dtype=torch.float64)
        loss = (out.color.flatten() * weights).sum() + (out.depth**2).sum()
        loss.backward()
        results.append((out, q.grad))
    (fused, fused_grad), (separate, separate_grad) = results
    assert torch.equal(fused.triangle_id, separate.triangle_id)
    torch.testing.assert_close(fused.color, separate.color, rtol=0, atol=1e-12)
    torch.testing.assert_close(fused.depth, separate.depth, rtol=1e-12, atol=0)
    torch.testing.assert_close(fused_grad, separate_grad, rtol=1e-9, atol=1e-10)


def test_interpolates_attributes_of_each_view(renderer, make_views):
    views = make_views(views=2)
    rast = renderer.rasterize(views.q, views.triangles, views.height, views.width)
    assert torch.equal(
        rast.triangle_id,
        renderer.visibility(views.q, views.triangles, views.height, views.width).triangle_id,
    )
    # Depth is the attribute w: interpolated perspective-correctly it is the raster's own depth.
    w = renderer.interpolate(rast, views.q[..., 2:], views.triangles)[..., 0]
    torch.testing.assert_close(w, rast.depth, rtol=1e-12, atol=0)
    shared = renderer.interpolate(rast, views.uv, views.triangles)
    repeated = renderer.interpolate(rast, views.uv.expand(2, -1, -1), views.triangles)
    assert torch.equal(shared, repeated)
    torch.testing.assert_close(
        shared, reference.interpolate(rast, views.uv, views.triangles), rtol=0, atol=1e-11
    )


def test_sampling_holds_the_border_value(renderer):
    texture = torch.arange(6, dtype=torch.float64).reshape(2, 3, 1)
    uv = torch.tensor([[[[-5.0, -5], [0.5, 0.5], [1.0, 1.0], [2.5, 1.5], [99, 99]]]]).double()
    assert renderer.sample(texture, uv).flatten().tolist() == [0, 0, 2, 5, 5]


def test_views_rendered_together_equal_single_renders(renderer, make_views):
    views = make_views(views=3)
    together = renderer.render(views.q, views.triangles, **views.arguments)
    for view in range(3):
        alone = renderer.render(views.q[view : view + 1], views.triangles, **views.arguments)
        assert torch.equal(together.color[view], alone.color[0])
        assert torch.equal(together.triangle_id[view], alone.triangle_id[0])
        assert torch.equal(together.depth[view], alone.depth[0])


def _bits(views) -> list[torch.Tensor]:
    q = views.q.clone().requires_grad_()
    uv, texture = views.uv.clone().requires_grad_(), views.texture.clone().requires_grad_()
    fused = cpu.render(q, views.triangles, **views.arguments)
    (fused.color.square().sum() + fused.depth.sum()).backward()
    fused_grad = q.grad.clone()
    q.grad = None
    separate = cpu.render(
        q, views.triangles, uv=uv, texture=texture, height=views.height, width=views.width
    )
    (separate.color.square().sum() + separate.depth.sum()).backward()
    outputs = [fused.color, fused.depth, fused.triangle_id, fused_grad]
    return [*outputs, separate.color, q.grad, uv.grad, texture.grad]


def test_same_bits_on_every_run_and_at_any_number_of_threads(make_views):
    views = make_views(height=150, width=200, rows=40, columns=50, dtype=torch.float32)
    before = numba.get_num_threads()
    first = _bits(views)
    try:
        for threads in {1, before, before}:
            numba.set_num_threads(threads)
            for a, b in zip(first, _bits(views), strict=True):
                assert torch.equal(a, b)
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_of_a_fresh_process_do_not_change_a_bit(threads, tmp_path):
    """The pool's size is fixed when numba starts, so one and two threads need own processes."""
    code = """
import hashlib, numpy as np, torch
from refdepth.geometry.mesh import grid_mesh
from refdepth.render import select_renderer
y, x = np.mgrid[:96, :128]
mesh = grid_mesh(2 + np.sin(x / 9) * np.cos(y / 7) / 2, 3, 1.1)
uv, w = torch.from_numpy(mesh.vertices_px), torch.from_numpy(mesh.depth)[:, None]
q = torch.cat([uv * w, w], 1)
q = torch.stack([q, q + torch.tensor([3.0, -2.0, 0.05])]).requires_grad_()
texture = torch.from_numpy(np.random.default_rng(0).random((96, 128, 3), dtype=np.float32))
out = select_renderer('cpu').render(
    q, torch.from_numpy(mesh.triangles), uv=uv, texture=texture, height=96, width=128)
(out.color.square().sum() + out.depth.sum()).backward()
parts = (out.color, out.depth, out.triangle_id, q.grad)
print(hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in parts)).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NUMBA_NUM_THREADS": count},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for count in ("1", threads)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(3, 3)}, "q must be"),
        ({"q": torch.zeros(1, 9, 3, dtype=torch.int64)}, "q must be"),
        ({"triangles": torch.zeros(1, 3, dtype=torch.int64)}, "triangles must be"),
        ({"triangles": torch.tensor([[0, 1, 9999]], dtype=torch.int32)}, "0 to 9999"),
        ({"triangles": torch.tensor([[0, 1, -1]], dtype=torch.int32)}, "-1 to 1"),
        ({"uv": torch.zeros(2, 2)}, "uv must be"),
        ({"texture": torch.zeros(0, 4, 3)}, "texture must be"),
        ({"height": 0}, "height and width"),
        ({"width": 40_000}, "height and width"),
    ],
)
def test_arguments_that_do_not_fit_are_named(make_views, renderer, change, message):
    views = make_views()
    arguments = {"q": views.q, "triangles": views.triangles, **views.arguments, **change}
    with pytest.raises(ValueError, match=message):
        renderer.render(arguments.pop("q"), arguments.pop("triangles"), **arguments)
