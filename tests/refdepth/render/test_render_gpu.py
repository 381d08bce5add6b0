"""Parity of the nvdiffrast renderer with the CPU renderer: always over an emulation of nvdiffrast
on a device that bites, and by `make gpu-check` over nvdiffrast itself on a machine with CUDA. Asked
for where CUDA or nvdiffrast is missing, those tests fail and say what is."""

from dataclasses import replace

import fake_nvdiffrast
import pytest
import torch
from biting_device import DEVICE, biting
from fake_nvdiffrast import emulated_renderer

from refdepth.render.cpu import CpuRenderer
from refdepth.render.selection import select_renderer

cpu = CpuRenderer()
on_a_gpu = pytest.param("nvdiffrast", marks=pytest.mark.gpu)


@pytest.fixture(params=["emulated", on_a_gpu])
def gpu(request):
    if request.param == "nvdiffrast":
        yield select_renderer("nvdiffrast")
    else:
        with biting():
            yield emulated_renderer(DEVICE)


def _render(renderer, views, *, weights=None):
    device = renderer.device
    q = views.q.to(device, copy=True).requires_grad_()
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


def _cosine(ours, theirs):
    return torch.nn.functional.cosine_similarity(
        ours.flatten().double(), theirs.cpu().flatten().double(), dim=0
    )


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
    assert _cosine(ours, theirs) > 0.999


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
        assert torch.isfinite(tensor.cpu()).all()
    empty = torch.zeros((0, 3), dtype=torch.int32, device=gpu.device)
    seen = gpu.visibility(views.q.to(gpu.device), empty, 8, 8)
    assert not seen.coverage.cpu().any()


def test_gradients_do_not_depend_on_the_scenes_unit(make_views, gpu):
    """Triangles of two to three pixels, where constants in a backward pass show first."""
    views = _smooth_views(make_views, rows=50, columns=66, height=120, width=160, views=2)
    weights = torch.randn(2, 120, 160, 3, generator=torch.Generator().manual_seed(0))
    _, ours = _render(cpu, views, weights=weights)
    _, theirs = _render(gpu, views, weights=weights)
    assert _cosine(ours, theirs) > 0.99
    for unit in (2.0**-8, 2.0**-2, 2.0**5):  # made at a depth of 3; powers of two round nothing
        changed = replace(views, q=views.q * unit)
        _, scaled = _render(gpu, changed, weights=weights)
        torch.testing.assert_close((scaled * unit).cpu(), theirs.cpu(), rtol=1e-3, atol=1e-5)


def test_what_stands_just_before_the_camera_is_drawn_where_some_lies_behind(make_views, gpu):
    """A floor from far ahead to behind the camera, with the nearest corner ahead at depth 1."""
    corners = torch.tensor(
        [[-2.0, 1, -1], [2, 1, -1], [-2, 1, 1], [2, 1, 1], [-9, 1, 40], [9, 1, 40]]
    )
    K = torch.tensor([[40.0, 0, 40], [0, 40, 30], [0, 0, 1]])
    q = (corners @ K.T)[None].to(gpu.device)
    triangles = torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4]], dtype=torch.int32)
    seen = gpu.visibility(q, triangles.to(gpu.device), 220, 80)
    exact = cpu.visibility(q.cpu(), triangles, 220, 80)
    nearest = exact.depth[exact.coverage].min()
    assert nearest < 0.25  # far less than half of the nearest corner's depth
    assert (seen.coverage.cpu() != exact.coverage).sum() <= 0.01 * exact.coverage.sum()


def test_a_few_far_corners_cut_off_nothing_near(make_views, gpu):
    """A sky a hundred thousand times as far as the rest."""
    views = _smooth_views(make_views, views=1)
    exact = cpu.visibility(views.q, views.triangles, views.height, views.width)
    views.q[:, :40] *= 1e5
    seen = gpu.visibility(
        views.q.to(gpu.device), views.triangles.to(gpu.device), views.height, views.width
    )
    kept = exact.coverage & (exact.triangle_id > 2 * 39)  # all but the first row of squares
    assert seen.coverage.cpu()[kept].double().mean() > 0.99


def test_an_empty_batch_gives_an_empty_picture(make_views, gpu):
    views = _smooth_views(make_views, views=2, height=24, width=32)
    for renderer in (cpu, gpu):
        device = renderer.device
        q = views.q[:0].to(device).requires_grad_()
        texture = views.texture.to(device)
        out = renderer.render(
            q,
            views.triangles.to(device),
            uv=views.uv.to(device),
            texture=texture,
            height=24,
            width=32,
        )
        assert out.color.shape == (0, 24, 32, 3)
        assert out.depth.shape == out.triangle_id.shape == (0, 24, 32)
        (out.color.sum() + out.depth.sum()).backward()
        assert q.grad.shape == q.shape
        assert renderer.sample(texture, q.new_zeros((0, 24, 32, 2))).shape == (0, 24, 32, 3)
        seen = renderer.visibility(q, views.triangles.to(device), 24, 32)
        assert seen.depth.shape == (0, 24, 32)


@pytest.mark.parametrize("gpu", [on_a_gpu], indirect=True)
def test_a_step_reads_nothing_back_to_the_host(make_views, gpu):
    views = _smooth_views(make_views)
    weights = torch.ones(3, views.height, views.width, 3)
    _render(gpu, views, weights=weights)
    device = gpu.device
    q = views.q.to(device, copy=True).requires_grad_()
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


def test_over_the_emulation_a_step_waits_for_rasterize_alone(make_views):
    views = _smooth_views(make_views, height=60, width=80)
    with biting() as watch:
        gpu = emulated_renderer(DEVICE)
        q = views.q.to(DEVICE).requires_grad_()
        triangles, uv, texture = (
            tensor.to(DEVICE) for tensor in (views.triangles, views.uv, views.texture)
        )
        watch.clear()
        out = gpu.render(q, triangles, uv=uv, texture=texture, height=60, width=80)
        out.color.square().mean().backward()
        assert watch.waits == {"render/nvdiffrast.py NvdiffrastRenderer._tile": 1}, watch.text()
        assert torch.isfinite(q.grad.cpu()).all()


def test_the_emulation_refuses_what_nvdiffrast_refuses(make_views):
    views = _smooth_views(make_views, height=24, width=32, views=1)
    clip = torch.nn.functional.pad(views.q[0], (0, 1), value=1.0)
    ranges = torch.tensor([[0, len(views.triangles)]], dtype=torch.int32)
    good = {"pos": clip, "tri": views.triangles, "resolution": (24, 32), "ranges": ranges}
    context = fake_nvdiffrast.RasterizeCudaContext(torch.device("cpu"))
    fake_nvdiffrast.rasterize(context, **good)
    with biting():
        elsewhere = clip.to(DEVICE)
        for bad in (
            {"pos": clip.double()},
            {"pos": clip.T.contiguous().T},
            {"pos": clip[:, :3].contiguous()},
            {"pos": elsewhere},
            {"tri": views.triangles.long()},
            {"tri": views.triangles[:0]},
            {"resolution": (24, 4096)},
            {"ranges": ranges.to(DEVICE)},
        ):
            with pytest.raises(RuntimeError, match="nvdiffrast"):
                fake_nvdiffrast.rasterize(context, **{**good, **bad})
