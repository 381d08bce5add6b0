"""Parity of nvdiffrast with the CPU renderer. Run by `make gpu-check` on a machine with CUDA; asked
for where CUDA or nvdiffrast is missing, these tests fail and say what is."""

import pytest
import torch

from refdepth.render.cpu import CpuRenderer
from refdepth.render.selection import select_renderer

pytestmark = pytest.mark.gpu

cpu = CpuRenderer()


@pytest.fixture(scope="module")
def gpu():
    return select_renderer("nvdiffrast")


def _render(renderer, views, *, weights=None):
    device = renderer.device
    q = views.q.to(device).requires_grad_()
    out = renderer.render(
        q,
        views.triangles.to(device),
        uv=views.uv.to(device),
        texture=views.texture.to(device),
        height=views.height,
        width=views.width,
    )
    if weights is not None:
        (out.color * weights.to(device)).sum().backward()
    return out, q.grad


def _smooth_views(make_views, **changes):
    settings = {"height": 240, "width": 320, "rows": 30, "columns": 40, "relief": 0.15}
    return make_views(dtype=torch.float32, **{**settings, **changes})


@pytest.mark.parametrize("seed", range(3))
def test_colours_and_depth_agree(make_views, gpu, seed):
    views = _smooth_views(make_views, seed=seed)
    ours, _ = _render(cpu, views)
    theirs, _ = _render(gpu, views)
    both = ours.coverage & theirs.coverage.cpu()
    either = ours.coverage | theirs.coverage.cpu()
    assert both.sum() >= 0.995 * either.sum()
    error = (ours.color - theirs.color.cpu()).abs().amax(-1)[both]
    assert (error <= 2 / 255).double().mean() >= 0.995
    depth_error = ((ours.depth - theirs.depth.cpu()).abs() / ours.depth)[both]
    assert (depth_error < 1e-3).double().mean() >= 0.995
    same = (ours.triangle_id == theirs.triangle_id.cpu())[both]
    assert same.double().mean() >= 0.97


@pytest.mark.parametrize("seed", range(3))
def test_gradients_point_the_same_way(make_views, gpu, seed):
    views = _smooth_views(make_views, seed=seed)
    weights = torch.randn(
        3, views.height, views.width, 3, generator=torch.Generator().manual_seed(seed)
    )
    _, ours = _render(cpu, views, weights=weights)
    _, theirs = _render(gpu, views, weights=weights)
    assert (
        torch.nn.functional.cosine_similarity(
            ours.flatten().double(), theirs.cpu().flatten().double(), dim=0
        )
        > 0.999
    )


def test_pictures_above_the_viewport_limit_are_tiled(make_views, gpu):
    views = _smooth_views(make_views, height=1100, width=4096, views=1)
    ours, _ = _render(cpu, views)
    theirs, _ = _render(gpu, views)
    both = ours.coverage & theirs.coverage.cpu()
    assert both.sum() >= 0.995 * ours.coverage.sum()
    error = (ours.color - theirs.color.cpu()).abs().amax(-1)[both]
    assert (error <= 2 / 255).double().mean() >= 0.995


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_bad_vertices_and_empty_meshes_leave_no_nan(make_views, gpu, bad):
    views = _smooth_views(make_views, views=2)
    views.q[0, 100] = bad
    views.q[1, 50, 2] = -1.0
    out, grad = _render(gpu, views, weights=torch.ones(2, views.height, views.width, 3))
    for tensor in (out.color, out.depth, grad):
        assert torch.isfinite(tensor).all()
    empty = torch.zeros((0, 3), dtype=torch.int32, device=gpu.device)
    seen = gpu.visibility(views.q.to(gpu.device), empty, 8, 8)
    assert not seen.coverage.any()


def test_a_step_reads_nothing_back_to_the_host(make_views, gpu):
    views = _smooth_views(make_views)
    weights = torch.ones(3, views.height, views.width, 3)
    _render(gpu, views, weights=weights)
    device = gpu.device
    q = views.q.to(device).requires_grad_()
    triangles, uv, texture = (
        tensor.to(device) for tensor in (views.triangles, views.uv, views.texture)
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = gpu.render(
            q, triangles, uv=uv, texture=texture, height=views.height, width=views.width
        )
        out.color.square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
