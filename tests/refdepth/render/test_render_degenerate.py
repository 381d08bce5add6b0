import math

import numpy as np
import pytest
import torch
from reference_renderer import ReferenceRenderer

from refdepth.render.kernels.geometry import pixel_box, project_vertices
from refdepth.render.torch_planes import Corners

nan, inf = math.nan, math.inf


def _step(renderer, q, triangles, *, height=16, width=16, dtype=torch.float64):
    """Renders, differentiates, and returns the output and the gradient; None from a renderer that
    gives none."""
    q = torch.as_tensor(q, dtype=dtype)[None].clone().requires_grad_(renderer.differentiable)
    uv = torch.stack(
        [torch.linspace(0, 5, q.shape[1]), torch.linspace(6, 0, q.shape[1])], dim=-1
    ).to(dtype)
    texture = torch.rand(7, 6, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    triangles = torch.tensor(triangles, dtype=torch.int32).reshape(-1, 3)
    out = renderer.render(q, triangles, uv=uv, texture=texture, height=height, width=width)
    for tensor in (out.color, out.depth):
        assert torch.isfinite(tensor).all()
    if not renderer.differentiable:
        return out, None
    (out.color.square().sum() + out.depth.clamp(max=1e6).sum()).backward()
    assert torch.isfinite(q.grad).all()
    return out, q.grad[0]


GOOD = [[0.0, 0.0, 1.0], [40.0, 0.0, 1.0], [0.0, 40.0, 1.0]]


@pytest.mark.parametrize(
    "vertex",
    [
        [nan, 0, 1],
        [0, inf, 1],
        [0, 0, nan],
        [1, 1, -inf],
        [nan, nan, nan],
        [40, 0, 1],  # equal to another vertex: no area
        [20, 0, 1],  # on the line between the other two: no area
        [0, 0, 0],  # no direction at all
    ],
)
def test_triangles_that_cannot_be_drawn_leave_the_others_alone(renderer, vertex):
    q = [*GOOD, vertex, [40.0, 0.0, 1.0], [10.0, 0.0, 1.0]]
    alone, grad_alone = _step(renderer, GOOD, [[0, 1, 2]])
    out, grad = _step(renderer, q, [[3, 4, 5], [0, 1, 2], [3, 3, 4], [1, 1, 1]])
    assert torch.equal(out.coverage, alone.coverage)
    assert set(out.triangle_id.unique().tolist()) <= {0, 2}
    assert torch.equal(out.depth, alone.depth)
    if renderer.differentiable:
        assert (grad[3:] == 0).all()
        assert torch.equal(grad[:3] != 0, grad_alone != 0)


def test_wholly_behind_the_camera_is_not_drawn(renderer):
    out, grad = _step(renderer, -torch.tensor(GOOD), [[0, 1, 2]])
    assert not out.coverage.any()
    assert grad is None or (grad == 0).all()


def _across(count: int) -> torch.Tensor:
    """Triangles (count, 3, 3), pixel places times w, with vertices on both sides of the camera
    plane, which may all be in the picture, beside it or far off."""
    rng = torch.Generator().manual_seed(1)
    q = torch.randn(count, 3, 3, generator=rng, dtype=torch.float64)
    q[..., :2] *= torch.tensor([3.0, 20.0, 200.0])[torch.arange(count) % 3, None, None]
    q[:, 0, 2], q[:, 1, 2] = q[:, 0, 2].abs(), -q[:, 1, 2].abs()
    return q


def test_triangles_across_the_camera_plane_are_drawn_as_by_brute_force(renderer):
    q, triangles = _across(400), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    expected = ReferenceRenderer().visibility(q, triangles, 16, 16)
    found = renderer.visibility(q, triangles, 16, 16)
    assert 0.05 < (expected.triangle_id > 0).double().mean() < 0.5
    assert torch.equal(found.triangle_id, expected.triangle_id)


def test_they_are_looked_for_only_where_they_can_be():
    """By both ways of drawing, on less than half of the pictures; most triangles miss theirs."""
    q, triangles = _across(400), torch.tensor([[0, 1, 2]])
    view, index = torch.arange(400), torch.zeros(400, dtype=torch.int64)
    boxes = Corners.of(q, triangles, view, index).boxes(16, 16)
    assert int(boxes.pixels.sum()) < 0.5 * 400 * 16 * 16
    for number in range(400):
        places = np.empty((3, 3))
        project_vertices(q[number].numpy(), places)
        left, right, top, bottom = pixel_box(places, 0, 1, 2, 16, 16)
        own = [int(part[number]) for part in (boxes.left, boxes.top, boxes.columns, boxes.rows)]
        columns, rows = max(right - left + 1, 0), max(bottom - top + 1, 0)
        assert columns * rows == own[2] * own[3]
        if columns and rows:
            assert own == [left, top, columns, rows]


@pytest.mark.parametrize("w", [-1.0, -1e-3, 0.0, 1e-3])
def test_part_in_front_of_a_crossing_triangle_is_drawn(renderer, w):
    """A floor that reaches under and behind the camera: seen below the horizon, nothing above."""
    q = [[-40.0, 30, w], [56.0, 30, w], [8 * 9, 8.5 * 9, 9.0]]
    out, _ = _step(renderer, q, [[0, 1, 2]])
    expected = ReferenceRenderer().visibility(
        torch.tensor(q, dtype=torch.float64)[None],
        torch.tensor([[0, 1, 2]], dtype=torch.int32),
        16,
        16,
    )
    assert torch.equal(out.triangle_id, expected.triangle_id)
    torch.testing.assert_close(out.depth, expected.depth)
    assert out.coverage[0, 12:].any()
    assert not out.coverage[0, :8].any()


def test_off_screen_in_every_direction(renderer):
    for dx, dy in [(100, 0), (-100, 0), (0, 100), (0, -100), (1e9, 1e9), (-1e30, 0)]:
        q = torch.tensor(GOOD, dtype=torch.float64)
        q[:, 0] += dx
        q[:, 1] += dy
        out, grad = _step(renderer, q, [[0, 1, 2]])
        assert not out.coverage.any()
        assert grad is None or (grad == 0).all()


@pytest.mark.parametrize("vertices", [0, 3])
def test_empty_mesh_renders_nothing(renderer, vertices):
    out, grad = _step(renderer, torch.zeros(vertices, 3), [])
    assert not out.coverage.any()
    assert (out.color == 0).all()
    assert grad is None or grad.shape == (vertices, 3)


def test_no_views(renderer):
    out = renderer.render(
        torch.zeros(0, 3, 3),
        torch.tensor([[0, 1, 2]], dtype=torch.int32),
        uv=torch.zeros(3, 2),
        texture=torch.zeros(2, 2, 3),
        height=4,
        width=5,
    )
    assert out.color.shape == (0, 4, 5, 3)


def test_one_pixel(renderer):
    out, grad = _step(renderer, GOOD, [[0, 1, 2]], height=1, width=1)
    assert out.triangle_id.item() == 1
    assert grad is None or (grad != 0).any()


@pytest.mark.parametrize(("height", "width"), [(3, 4096), (4096, 3)])
def test_long_pictures_are_covered_to_the_end(renderer, height, width):
    q = [[0.0, 0, 1], [2.0 * width, 0, 1], [0.0, 2.0 * height, 1]]
    out, _ = _step(renderer, q, [[0, 1, 2]], height=height, width=width, dtype=torch.float32)
    assert out.coverage.all()


@pytest.mark.parametrize("renderer", ["cpu"], indirect=True)
def test_large_picture(renderer, make_views):
    views = make_views(views=1, height=4096, width=4096, dtype=torch.float32)
    q = views.q.clone().requires_grad_()
    out = renderer.render(q, views.triangles, **views.arguments)
    out.color.sum().backward()
    assert out.coverage.double().mean() > 0.5
    assert torch.isfinite(q.grad).all()
    assert (q.grad != 0).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_texture_of_one_row_or_column_is_not_read_beyond(renderer, make_views, shape):
    views = make_views()
    q = views.q.clone().requires_grad_(renderer.differentiable)
    memory = torch.full((64,), nan, dtype=torch.float64)
    texture = memory[: shape[0] * shape[1] * 3].view(*shape, 3).fill_(0.25)
    out = renderer.render(q, views.triangles, **{**views.arguments, "texture": texture})
    torch.testing.assert_close(
        out.color[out.coverage], torch.full_like(out.color[out.coverage], 0.25)
    )
    if renderer.differentiable:
        out.color.sum().backward()
        assert (q.grad == 0).all()


def test_order_of_vertices_in_a_triangle_does_not_matter(renderer, make_views):
    views = make_views()
    seen = [
        renderer.visibility(views.q, views.triangles[:, order].contiguous(), 30, 41)
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])
    ]
    for other in seen[1:]:
        assert torch.equal(seen[0].coverage, other.coverage)
        torch.testing.assert_close(seen[0].depth, other.depth)
