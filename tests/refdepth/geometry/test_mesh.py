import numpy as np
import pytest

from refdepth.geometry.mesh import grid_mesh, grid_positions


def test_vertices_lie_on_pixel_centres_and_reach_both_borders():
    depth = np.arange(1, 1 + 7 * 10, dtype=np.float32).reshape(7, 10)
    mesh = grid_mesh(depth, stride=4, cut_ratio=1e6)
    assert (mesh.rows, mesh.columns) == (3, 4)
    assert mesh.vertices_px.reshape(3, 4, 2)[:, :, 0].tolist() == [[0.5, 4.5, 8.5, 9.5]] * 3
    assert mesh.vertices_px.reshape(3, 4, 2)[:, 0, 1].tolist() == [0.5, 4.5, 6.5]
    x, y = (mesh.vertices_px - 0.5).astype(int).T
    np.testing.assert_array_equal(mesh.depth, depth[y, x])


def test_known_depth_without_steps_is_covered_once():
    mesh = grid_mesh(np.full((9, 13), 2.0), stride=3, cut_ratio=1.01)
    a, b, c = mesh.vertices_px[mesh.triangles].transpose(1, 0, 2).astype(float)
    areas = np.abs(np.cross(np.c_[b - a, np.zeros(len(a))], np.c_[c - a, np.zeros(len(a))])[:, 2])
    assert areas.min() > 0
    assert areas.sum() / 2 == pytest.approx(8 * 12)


def test_no_triangle_spans_a_step():
    depth = np.full((12, 12), 2.0)
    depth[:, 6:] = 2.2
    mesh = grid_mesh(depth, stride=1, cut_ratio=1.06)
    corners = mesh.depth[mesh.triangles]
    assert (corners.max(axis=1) == corners.min(axis=1)).all()
    assert len(mesh.triangles) == 2 * 11 * (5 + 5)


@pytest.mark.parametrize("unknown", [0.0, -1.0, np.nan, np.inf])
def test_unknown_corner_takes_only_the_triangles_that_touch_it(unknown):
    depth = np.full((3, 3), 1.0)
    depth[0, 0] = unknown
    mesh = grid_mesh(depth, stride=1, cut_ratio=1.5)
    assert mesh.depth[0] == 0
    assert 0 not in mesh.triangles
    assert len(mesh.triangles) == 7


def test_cell_is_split_along_the_flatter_diagonal():
    mesh = grid_mesh([[1.0, 1.2], [1.2, 1.4]], stride=1, cut_ratio=2)
    assert {frozenset(t) for t in mesh.triangles.tolist()} == {
        frozenset({0, 1, 2}),
        frozenset({1, 2, 3}),
    }


def test_all_triangles_turn_the_same_way():
    rng = np.random.default_rng(0)
    mesh = grid_mesh(rng.uniform(1, 1.5, (8, 8)), stride=1, cut_ratio=2)
    a, b, c = mesh.vertices_px[mesh.triangles].transpose(1, 2, 0).astype(float)
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    assert len(set(np.sign(turn))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (0, 0)])
def test_pictures_too_small_for_a_triangle_give_none(shape):
    if 0 in shape:
        with pytest.raises(ValueError, match="at least 1"):
            grid_mesh(np.ones(shape), stride=2, cut_ratio=1.1)
        return
    assert grid_mesh(np.ones(shape), stride=2, cut_ratio=1.1).triangles.shape == (0, 3)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="height, width"):
        grid_mesh(np.ones(4), stride=1, cut_ratio=1.1)
    with pytest.raises(ValueError, match="cut_ratio"):
        grid_mesh(np.ones((4, 4)), stride=1, cut_ratio=0.9)
    with pytest.raises(ValueError, match="stride"):
        grid_positions(4, 0)
