"""The grid solver and spreading as tensors: against the loops, scipy's direct solver, and on a
device without numbers, where nothing can be read back."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse
import scipy.sparse.linalg as linalg
import torch

from refdepth.matching import torch_propagation
from refdepth.matching.propagation import GridSystem, propagate
from refdepth.matching.torch_propagation import TensorGridSystem

Grid = np.ndarray
SHAPES = [(41, 58), (16, 16), (33, 5), (2, 3), (1, 1)]
THIN = [(1, 300), (300, 2), (7, 200)]


def uneven(shape: tuple[int, int], seed: int = 0) -> tuple[Grid, Grid, Grid, Grid]:
    """Few data, links of all strengths, a wall in between; and a right side."""
    rng = np.random.default_rng(seed)
    height, width = shape
    w = np.where(rng.random(shape) < 0.1, rng.random(shape), 0) + 1e-3
    wx = 8 * np.exp(-6 * rng.random((height, width - 1)))
    wy = 8 * np.exp(-6 * rng.random((height - 1, width)))
    if width > 2:
        wx[:, width // 3] = 1e-4
    return w, wx, wy, w * rng.normal(size=shape)


def direct(w: Grid, wx: Grid, wy: Grid, rhs: Grid) -> Grid:
    index = np.arange(w.size).reshape(w.shape)
    i = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    j = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    c = np.concatenate([wx.ravel(), wy.ravel()])
    laplacian = sparse.coo_matrix(
        (np.concatenate([-c, -c, c, c]), (np.r_[i, j, i, j], np.r_[j, i, i, j])), (w.size, w.size)
    )
    matrix = (laplacian + sparse.diags(w.ravel())).tocsc()
    return linalg.spsolve(matrix, rhs.ravel()).reshape(w.shape)


def tensors(*grids: Grid) -> list[torch.Tensor]:
    return [torch.from_numpy(grid) for grid in grids]


def solved(w: Grid, wx: Grid, wy: Grid, rhs: Grid, start: Grid | None = None, **how: int) -> Grid:
    system = TensorGridSystem(*tensors(w, wx, wy))
    x = system.solve(*tensors(rhs), None if start is None else torch.from_numpy(start), **how)
    assert x.dtype == torch.float64
    return x.numpy()


@pytest.mark.parametrize("shape", [(41, 58), (16, 16), (29, 31)])
def test_every_iteration_is_that_of_the_loops(shape: tuple[int, int]) -> None:
    w, wx, wy, rhs = uneven(shape)
    start = np.random.default_rng(1).normal(size=shape)
    for given in (None, start):
        for cycles in (0, 1, 2, 7):
            loops = GridSystem(w, wx, wy).solve(rhs, given, limit=cycles)
            found = solved(w, wx, wy, rhs, given, cycles=cycles)
            np.testing.assert_allclose(found, loops, atol=1e-11)


@pytest.mark.parametrize("shape", [*SHAPES, *THIN])
def test_agrees_with_a_direct_solver(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_propagation, "TOLERANCE", 1e-12)
    given = uneven(shape)
    expected = direct(*given)
    found = solved(*given, cycles=100)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("shape", THIN)
def test_long_strips_take_no_more_iterations_than_pictures(shape: tuple[int, int]) -> None:
    w, wx, wy, rhs = uneven(shape)
    expected = direct(w, wx, wy, rhs)
    found = solved(w, wx, wy, rhs, cycles=40)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_once_converged_further_steps_change_nothing() -> None:
    """The tolerance is met in a few dozen steps; hundreds more leave the same bits."""
    given = uneven((41, 58))
    loops = GridSystem(*given[:3]).solve(given[3])
    found = solved(*given, cycles=100)
    np.testing.assert_allclose(found, loops, atol=1e-10)
    np.testing.assert_array_equal(solved(*given, cycles=400), found)
    solution = direct(*given)
    np.testing.assert_array_equal(solved(*given, solution, cycles=5), solution)


def test_a_right_side_of_zero_gives_zero() -> None:
    w, wx, wy, rhs = uneven((20, 31))
    found = solved(w, wx, wy, np.zeros_like(rhs))
    np.testing.assert_array_equal(found, 0)
    off = solved(w, wx, wy, np.zeros_like(rhs), np.ones_like(rhs), cycles=300)
    np.testing.assert_allclose(off, 0, atol=1e-10)


@pytest.mark.parametrize("cycles", [1, 5, 60])
def test_broken_systems_give_numbers(cycles: int) -> None:
    """Nothing holds the solution, or a part of it; pixels without any weight; no picture."""
    w, wx, wy, rhs = uneven((20, 31))
    none = np.zeros_like(w)
    assert np.isfinite(solved(none, wx, wy, rhs, cycles=cycles)).all()
    assert np.isfinite(solved(none, 0 * wx, 0 * wy, rhs, cycles=cycles)).all()
    assert np.isfinite(solved(-w, wx, wy, rhs, cycles=cycles)).all()
    wx[:, :4], wy[:, :4], w[:, :4], rhs[:, :4] = 0, 0, 0, 0
    found = solved(w, wx, wy, rhs, cycles=cycles)
    np.testing.assert_array_equal(found[:, :4], 0)
    assert np.isfinite(found).all()
    start = np.full_like(w, 0.5)
    np.testing.assert_array_equal(solved(w, wx, wy, rhs * np.nan, start, cycles=cycles), start)


def test_a_system_solves_again_after_numbers_that_broke_it() -> None:
    w, wx, wy, rhs = uneven((41, 58))
    system = TensorGridSystem(*tensors(w, wx, wy))
    before = system.solve(*tensors(rhs)).numpy()
    system.solve(*tensors(rhs * np.inf))
    np.testing.assert_array_equal(system.solve(*tensors(rhs)).numpy(), before)


def test_single_precision_reaches_the_tolerance() -> None:
    """As on a device that has no other."""
    given = uneven((120, 160))
    expected = direct(*given)
    system = TensorGridSystem(*[part.float() for part in tensors(*given[:3])])
    found = system.solve(*[part.float() for part in tensors(given[3])], cycles=80)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(expected).max())


def opinions(count: int, shape: tuple[int, int]) -> tuple[Grid, ...]:
    rng = np.random.default_rng(count)
    height, width = shape
    values = rng.normal(0, 0.05, (count, *shape))
    weights = rng.random(values.shape) * (rng.random(values.shape) < 0.4)
    links = rng.random((height, width - 1)), rng.random((height - 1, width))
    start = rng.normal(0, 0.05, shape)
    return tuple(part.astype(np.float32) for part in (values, weights, *links, start))


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("shape", [(40, 57), (1, 9), (6, 1)])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("twicing", [False, True])
def test_corrections_spread_as_by_the_loops(
    count: int, shape: tuple[int, int], started: bool, twicing: bool
) -> None:
    """Up to what the tolerance of the solver leaves open."""
    *given, start = opinions(count, shape)
    how = {"smoothness": 8.0, "outlier": 0.03, "anchor": 1e-3, "rounds": 3, "sure": 0.25}
    how["twicing"] = twicing
    loops = propagate(*given, **how, start=start if started else None)
    on = tensors(*given)
    found = torch_propagation.propagate(
        *on, **how, start=torch.from_numpy(start) if started else None
    )
    assert found.dtype == torch.float32
    scale = max(np.abs(loops).max(), 1e-6)
    np.testing.assert_allclose(found, loops, atol=1e-3 * scale)


def test_stiff_surfaces_are_solved_as_by_the_loops() -> None:
    """As evidence is pooled: stiff within surfaces, next to nothing between them, few weights."""
    rng = np.random.default_rng(2)
    surface = (np.arange(90)[:, None] // 23 + np.arange(120) // 31) % 2
    values = (surface + rng.normal(0, 1, surface.shape))[None].astype(np.float32)
    weights = (0.3 * (rng.random(values.shape) < 0.5)).astype(np.float32)
    link_x, link_y = (
        np.where(np.diff(surface, axis=axis), 1e-5, 0.5 + 0.5 * rng.random()).astype(np.float32)
        for axis in (1, 0)
    )
    how = {"smoothness": 1000.0, "outlier": 1.0, "anchor": 0.01, "rounds": 1}
    given = values, weights, link_x, link_y
    loops = propagate(*given, **how)
    found = torch_propagation.propagate(*tensors(*given), **how)
    np.testing.assert_allclose(found, loops, atol=1e-3)
    assert np.ptp(loops) > 0.5


def test_what_opinions_weigh_is_what_the_loops_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without links each pixel is the weighted mean of its opinions."""
    values, weights, link_x, link_y, start = opinions(4, (6, 7))
    link_x[:], link_y[:] = 0, 0
    how = {"smoothness": 1.0, "outlier": 0.02, "anchor": 0.1, "rounds": 1, "sure": 0.3}
    monkeypatch.setattr(torch_propagation, "TOLERANCE", 1e-12)
    found = torch_propagation.propagate(
        *tensors(values, weights, link_x, link_y), **how, start=torch.from_numpy(start)
    )
    width = np.clip(0.3 / np.maximum(weights, 1e-9), 1, 8)
    share = weights / (1 + ((start - values) / width / 0.02) ** 2)
    expected = (share * values).sum(axis=0) / (share.sum(axis=0) + 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_nothing_is_read_back() -> None:
    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    how = {"smoothness": 8.0, "outlier": 0.03, "anchor": 1e-3, "rounds": 2}
    links = empty(40, 60), empty(39, 61)
    found = torch_propagation.propagate(empty(3, 40, 61), empty(3, 40, 61), *links, **how)
    assert found.shape == (40, 61)
