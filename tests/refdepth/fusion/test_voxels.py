"""Voxels of several sizes, merged in little memory and in much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.fusion.voxels import Lattice, VoxelGrid, _keys

ADDS, ROWS = 4, 300
LATTICE = Lattice(origin=(0.0, 0.0, 0.0), voxel=1.0)


def cloud(memory_rows: int, folder: Path, width: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Points and values of the same random additions, and the size of the largest piece."""
    rng = np.random.default_rng(5)
    grid = VoxelGrid(LATTICE, memory_rows, folder)
    for _ in range(ADDS):
        points = rng.uniform(-width, width, (ROWS, 3)) * [1, 1, 0.05]
        spacing = np.exp2(rng.integers(-9, 10, ROWS).astype(float))
        values, weight = rng.normal(size=(ROWS, 7)), rng.uniform(0.1, 1, ROWS)
        grid.add(LATTICE.rows(points, values, weight, spacing))
    pieces = list(grid.pieces())
    grid.close()
    points, values = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return points, values, max(len(piece) for piece, _ in pieces)


@pytest.mark.parametrize("width", [3.0, 100.0, 3000.0])
@pytest.mark.parametrize("memory_rows", [8, 200])
def test_the_cloud_does_not_depend_on_memory(
    memory_rows: int, width: float, tmp_path: Path
) -> None:
    roomy, tight = cloud(10**6, tmp_path, width), cloud(memory_rows, tmp_path, width)
    np.testing.assert_array_equal(tight[0], roomy[0])
    np.testing.assert_array_equal(tight[1], roomy[1])
    assert tight[2] <= memory_rows
    assert not list(tmp_path.iterdir())


def test_points_of_one_voxel_are_averaged_and_a_finer_voxel_replaces_them(tmp_path: Path) -> None:
    grid = VoxelGrid(LATTICE, 1, tmp_path)
    twin = np.array([[0.2, 0.2, 0.2], [0.6, 0.6, 0.6], [-3.5, 0.5, 0.5], [-3.3, 0.5, 0.5]])
    weight = np.array([1.0, 3.0, 1.0, 1.0])
    spacing = np.array([1.0, 1.0, 4.0, 0.5])  # the last lies in the voxel of the one before it
    grid.add(LATTICE.rows(twin, np.zeros((4, 7)), weight, spacing))
    found = np.concatenate([points for points, _ in grid.pieces()])
    grid.close()
    np.testing.assert_allclose(sorted(found.tolist()), [[-3.3, 0.5, 0.5], [0.5, 0.5, 0.5]])


def test_packed_voxel_keys_keep_the_order_of_cells():
    rng = np.random.default_rng(0)
    for spread in (5, 2**29):  # packed into one number, and too wide for that
        cells = rng.integers(-spread, spread, size=(500, 4)).astype(np.int32)
        cells = np.concatenate([cells, cells[:100]])
        key = _keys(cells)
        order = np.lexsort(cells.T[::-1])
        np.testing.assert_array_equal(np.argsort(key, kind="stable"), order)
        assert len(np.unique(key)) == len(np.unique(cells, axis=0))
