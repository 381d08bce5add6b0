"""What the renderer in tensor operations has of its own; the others' tests run on it too."""

from contextlib import nullcontext

import pytest
import torch
from biting_device import DEVICE, biting

from refdepth.render import torch_planes, torch_renderer, torch_visibility
from refdepth.render.cpu import CpuRenderer
from refdepth.render.torch_renderer import TorchRenderer

cpu, tensors = CpuRenderer(), TorchRenderer(torch.device("cpu"))


def test_nothing_depends_on_how_much_is_done_at_a_time(make_views, monkeypatch):
    views = make_views(relief=0.9, motion=0.3, dtype=torch.float32)
    twice = torch.cat([views.triangles, views.triangles])  # ties in stretches of their own
    whole = tensors.render(views.q, twice, **views.arguments)
    monkeypatch.setattr(torch_visibility, "BLOCK", 37)
    monkeypatch.setattr(torch_visibility, "CANDIDATES", 101)
    monkeypatch.setattr(torch_renderer, "PIXELS", 333)
    parts = tensors.render(views.q, twice, **views.arguments)
    assert parts.triangle_id.max() <= len(views.triangles)
    for one, other in zip(vars(whole).values(), vars(parts).values(), strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def without_float64(monkeypatch):
    for module in (torch_planes, torch_renderer):
        monkeypatch.setattr(module, "widest_float", lambda _: torch.float32)


def test_without_float64_only_edges_move(make_views, without_float64):
    """Away from the picture's origin, where float32 pixel coordinates have fewer digits."""
    views = make_views(height=150, width=200, rows=50, columns=66, dtype=torch.float32)
    views.q[..., 0] += 1000 * views.q[..., 2]
    seen = cpu.render(views.q, views.triangles, **{**views.arguments, "width": 1200})
    found = tensors.render(views.q, views.triangles, **{**views.arguments, "width": 1200})
    assert seen.coverage.sum() > 60_000
    assert (found.coverage != seen.coverage).sum() <= 3
    same = seen.coverage & (found.triangle_id == seen.triangle_id)
    assert same.sum() > 0.999 * seen.coverage.sum()
    torch.testing.assert_close(found.depth[same], seen.depth[same], rtol=1e-4, atol=0)
    places = found.place[:, same], seen.place[:, same]
    torch.testing.assert_close(*places, rtol=0, atol=5e-3)


def test_without_float64_no_gap_opens_between_neighbours(make_views, without_float64):
    """Where float32 tells pixel coordinates apart by a five-hundredth."""
    views = make_views(views=1, height=150, width=200, rows=50, columns=66, dtype=torch.float32)
    views.q[..., 0] += 20_000 * views.q[..., 2]
    found, seen = (one.visibility(views.q, views.triangles, 150, 20_200) for one in (tensors, cpu))
    assert seen.coverage.sum() > 25_000
    assert torch.equal(found.coverage, seen.coverage)


def test_a_vertex_three_times_is_not_drawn():
    """At pixel centres too, where its box holds a pixel."""
    centres = torch.tensor([[[0.5, 0.5, 1.0], [3.0, 1.0, 2.0], [7.5, 4.5, 3.0]]])
    triangles = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 2]], dtype=torch.int32)
    for q in (centres, centres.double()):
        assert not tensors.visibility(q, triangles, 6, 9).coverage.any()


def test_a_sliver_is_drawn_where_the_loops_draw_it():
    """Along the diagonal through pixel centres, thinner than rounding can tell or not."""
    triangle = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    for width, drawn in ((1e-11, False), (1e-8, True)):
        corners = [[0.0, 0.0, 1.0], [40.0, 40.0, 1.0], [20.0, 20.0 + width, 1.0]]
        q = torch.tensor([corners], dtype=torch.float64)
        found, seen = (one.visibility(q, triangle, 40, 40) for one in (tensors, cpu))
        assert bool(found.coverage.any()) is drawn
        assert torch.equal(found.triangle_id, seen.triangle_id)


def test_gradients_are_refused(make_views):
    views = make_views()
    q, uv = views.q.clone().requires_grad_(), views.uv.clone().requires_grad_()
    rast = tensors.rasterize(views.q, views.triangles, 30, 41)
    for call in (
        lambda: tensors.render(q, views.triangles, **views.arguments),
        lambda: tensors.rasterize(q, views.triangles, 30, 41),
        lambda: tensors.interpolate(rast, uv, views.triangles),
        lambda: tensors.sample(views.texture, uv),
    ):
        with pytest.raises(ValueError, match="gradient"):
            call()
        with torch.no_grad():
            call()


def test_a_picture_waits_once_for_its_device(make_views, monkeypatch):
    views = make_views()
    monkeypatch.setattr(torch_visibility, "BLOCK", 37)
    with biting() as watch:
        q, triangles, uv, texture = (
            tensor.to(DEVICE) for tensor in (views.q, views.triangles, views.uv, views.texture)
        )
        watch.clear()
        TorchRenderer(DEVICE).render(
            q, triangles, **{**views.arguments, "uv": uv, "texture": texture}
        )
    assert watch.waits == {"render/torch_visibility.py _lengths": 1}, watch.text()


def test_of_pictures_that_show_nearly_the_same_the_first_waits(make_views, monkeypatch):
    views = make_views(relief=0.9, motion=0.3, dtype=torch.float32)
    size = views.height, views.width
    monkeypatch.setattr(torch_visibility, "BLOCK", 37)
    monkeypatch.setattr(torch_visibility, "CANDIDATES", 101)
    with biting() as watch:
        q, triangles = views.q.to(DEVICE), views.triangles.to(DEVICE)
        renderer, exceeded = TorchRenderer(DEVICE).for_steps()
        renderer.visibility(q, triangles, *size)
        for zoom in (0.98, 0.8, 0.0, -1.0, 1.001):  # fewer candidates, none, and a few more
            moved = q * q.new_tensor([zoom, zoom, 1])
            watch.clear()
            found = renderer.visibility(moved, triangles, *size)
            assert not watch.waits, watch.text()
            whole = TorchRenderer(DEVICE).visibility(moved, triangles, *size)
            assert torch.equal(found.triangle_id.cpu(), whole.triangle_id.cpu())
            assert torch.equal(found.depth.cpu(), whole.depth.cpu())
        assert not exceeded.item()


def test_a_triangle_that_has_left_the_picture_is_not_drawn_below_it():
    corners = torch.tensor([[[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 40.0, 1.0]]])
    triangle = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    renderer, exceeded = tensors.for_steps()
    assert renderer.visibility(corners, triangle, 8, 8).coverage.sum() > 20
    assert not renderer.visibility(corners + torch.tensor([0, 8, 0]), triangle, 8, 8).coverage.any()
    assert not exceeded


@pytest.mark.parametrize("change", [1.3, -1.0])
def test_a_picture_that_shows_more_than_the_first_is_told(make_views, change):
    """Nothing at first, too: all of it lies beside the picture."""
    views = make_views()
    renderer, exceeded = tensors.for_steps()
    for zoom in (change, 1.0) if change < 0 else (1.0, change):
        assert not exceeded
        q = views.q * views.q.new_tensor([zoom, zoom, 1])
        q[..., :2] /= 3
        renderer.visibility(q, views.triangles, views.height, views.width)
    assert exceeded


@pytest.fixture(params=["biting", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    with biting() if request.param == "biting" else nullcontext():
        yield DEVICE if request.param == "biting" else torch.device("cuda")


def test_on_a_gpu_every_pixel_sees_what_the_loops_see(make_views, device):
    views = make_views(relief=0.9, motion=0.3, dtype=torch.float32)
    moved = {key: torch.as_tensor(value).to(device) for key, value in views.arguments.items()}
    moved |= {"height": views.height, "width": views.width}
    found = TorchRenderer(device).render(views.q.to(device), views.triangles.to(device), **moved)
    seen = cpu.render(views.q, views.triangles, **views.arguments)
    assert torch.equal(found.triangle_id.cpu(), seen.triangle_id)
    torch.testing.assert_close(found.depth.cpu(), seen.depth, rtol=3e-7, atol=0)
    torch.testing.assert_close(found.color.cpu(), seen.color, rtol=0, atol=1e-5)
